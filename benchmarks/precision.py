"""The fast path against plain float32, NCHW: ``python benchmarks/precision.py [--model NAME]``.

Prints seconds, the ratio, and how far the 8-bit result is off, for each precision that the device
has units for. The fast path keeps freed memory, as the command does; for comparison the plain one
is timed with it as well. With ``--untrained PRESET`` the network of that preset is taken with the
weights it starts from, whose speed is that of any.
"""

import argparse
import time

import torch

from srpipe import zoo
from srpipe.device import found, keep_freed_memory
from srpipe.infer import Upscaler
from srpipe.models import MODELS
from srpipe.pixels import from_unit
from srpipe.precision import DTYPES, native, whole_float32
from srpipe.resample import resize


def best(run, device, rounds=5):
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    wait()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = run()
        wait()
        times.append(time.perf_counter() - began)
    return min(times), result


def chosen(args):
    """A network, and what the engine has to know of it."""
    if args.untrained is None:
        loaded = zoo.load(args.model)
        names = ("scale", "halo", "exact", "alignment")
        return loaded.network, {name: getattr(loaded, name) for name in names}
    spec = MODELS[args.model.partition("-")[0]]
    options, scale = spec.presets[args.untrained], spec.scales[0]
    facts = {"scale": scale, "halo": spec.halo(scale=scale, **options), "exact": True}
    return spec.build(scale=scale, **options).eval(), facts | {"alignment": spec.alignment}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="eagcl-lite")
    parser.add_argument("--untrained", metavar="PRESET")
    parser.add_argument("--height", type=int, default=288)
    parser.add_argument("--width", type=int, default=352)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = found(args.device)
    network, facts = chosen(args)
    size = args.height, args.width
    noise = torch.rand(1, 3, size[0] // 4, size[1] // 4, generator=torch.Generator().manual_seed(0))
    picture = resize(noise, size).clamp(0, 1).to(device)
    network.to(device)
    with torch.inference_mode(), whole_float32(device):
        plain, wanted = best(lambda: network(picture), device)
        keep_freed_memory()
        kept, _ = best(lambda: network(picture), device)
    where = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    print(f"{size[1]} x {size[0]} px, {where}, plain fp32 NCHW {plain:.4f} s", end=", ")
    print(f"{kept:.4f} s with its memory kept")
    for precision in (name for name in DTYPES if native(device, name)):
        upscaler = Upscaler(network, **facts, device=str(device), precision=precision)
        seconds, made = best(lambda upscaler=upscaler: upscaler(picture), device)
        off = (from_unit(made, 8).int() - from_unit(wanted, 8).int()).abs().max().item()
        print(
            f"{precision} {seconds:.4f} s, {plain / seconds:.2f} times ({kept / seconds:.2f}),"
            f" {off} levels"
        )


if __name__ == "__main__":
    main()
