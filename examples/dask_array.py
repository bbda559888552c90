"""A lazy array in, a lazy one out; nothing is read before: ``python examples/dask_array.py``."""

import dask.array as da

import srpipe


def main() -> None:
    make = da.random.default_rng(0)
    scene = make.integers(0, 65536, (20_000, 20_000), dtype="uint16", chunks=1000)
    larger = srpipe.upscale(scene[6100:6164, 9300:9364], model="rdam", scale=2)
    print(f"{larger}: {larger[:2, :2].compute(scheduler='threads').tolist()}")


if __name__ == "__main__":
    main()
