"""One name for arrays of any kind and for files; what comes out is of the kind that went in."""

import subprocess
import sys
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from PIL import Image

import srpipe
from srpipe import api
from srpipe.errors import ConfigError, PixelError, SrpipeError


@pytest.fixture
def upscale(toy):
    def upscale(image, *args, **settings):
        return srpipe.upscale(image, *args, **({"model": "toy", "weights": toy} | settings))

    api._upscaler.cache_clear()
    return upscale


def numbers(shape, dtype="uint8", seed=0):
    make = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return make.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return make.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def doubled(array, order):
    for letter in "YX":
        array = array.repeat(2, order.index(letter))
    return array


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_an_array_comes_back_larger_and_of_its_own_type(upscale, shape, dtype):
    array = numbers(shape, dtype)
    before = array.copy()
    larger = upscale(array)
    assert type(larger) is np.ndarray
    assert larger.dtype == array.dtype
    assert np.allclose(larger, doubled(array, "YXS"), rtol=1e-6)
    assert np.array_equal(array, before)


@pytest.mark.parametrize("order", ["TCZYX", "yxc", "CYX", "YXS", "SYX", "XY", "TYX"])
def test_axes_stay_where_they_are(upscale, order):
    lengths = {"T": 2, "C": 5, "Z": 3, "Y": 6, "X": 4, "S": 4}
    array = numbers([lengths[letter] for letter in order.upper()], "uint16")
    assert np.array_equal(upscale(array, axes=order), doubled(array, order.upper()))


@pytest.mark.parametrize("order", ["YX", "TCYX", "YXS"])
def test_a_lazy_array_stays_lazy_and_becomes_the_same(upscale, order, monkeypatch):
    monkeypatch.setattr(api, "LEAST_SIDE", 5)
    lengths = {"T": 2, "C": 2, "Y": 23, "X": 17, "S": 3}
    array = numbers([lengths[letter] for letter in order], "uint16")
    lazy = upscale(
        da.from_array(array, chunks=[{"Y": 7, "X": 4}.get(x, 1) for x in order]), axes=order
    )
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == array.dtype
    assert max(lazy.numblocks) > 1
    with dask.config.set(scheduler="sync"):
        assert np.array_equal(lazy.compute(), upscale(array, axes=order))


def test_a_chunk_sees_what_lies_around_it(upscale, monkeypatch):
    """What is projected looks at pixels around a chunk, and the network of these tests does not."""
    monkeypatch.setattr(api, "LEAST_SIDE", 5)
    array = numbers((50, 40), "float32")
    lazy = upscale(da.from_array(array, chunks=(13, 9)), consistency="project")
    whole = upscale(array, consistency="project")
    assert np.allclose(lazy.compute(scheduler="sync"), whole, atol=1e-5)
    assert not np.allclose(whole, doubled(array, "YX"), atol=0.01)


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "float32"])
def test_colours_that_opacity_hides_change_none_that_are_seen(upscale, dtype):
    """Neither do they the range of wide numbers."""
    array = numbers((20, 24, 4), dtype) // 2 if dtype != "float32" else numbers((20, 24, 4), dtype)
    array[..., 3] = array[..., 3].max()
    array[6:9, 5:9, 3] = 0
    other = array.copy()
    other[6:9, 5:9, :3] = np.iinfo(dtype).max if dtype != "float32" else 0.5
    settings = {"axes": "YXS", "consistency": "project"}  # which sees pixels around
    made, apart = upscale(array, **settings), upscale(other, **settings)
    seen = made[..., 3] > 0
    assert np.array_equal(seen, apart[..., 3] > 0)
    assert np.array_equal(made[seen], apart[seen])
    for result, source in ((made, array), (apart, other)):
        assert np.array_equal(result[~seen], doubled(source, "YXS")[~seen])


def test_nothing_is_read_of_a_lazy_array_until_it_is_computed(upscale):
    read = []

    def look(block):
        read.append(block.shape)
        return block

    lazy = da.from_array(numbers((64, 64)), chunks=64).map_blocks(look, meta=np.empty((0, 0), "u1"))
    larger = upscale(lazy)
    assert larger.shape == (128, 128)
    assert read == []
    larger[:4, :4].compute(scheduler="sync")
    assert read


@pytest.mark.parametrize("gated", [False, True])
def test_a_network_that_looks_at_the_whole_sees_it_in_chunks_too(gated, tmp_path, monkeypatch):
    import toy

    from srpipe.models import MODELS

    monkeypatch.setitem(MODELS, "toy", toy.SPEC)
    monkeypatch.setattr(api, "LEAST_SIDE", 5)
    api._upscaler.cache_clear()
    settings = {"model": "toy", "weights": toy.install(tmp_path, gated=gated)}
    array = numbers((40, 24), "float32") * np.linspace(0, 1, 40, dtype="float32")[:, None]
    whole = srpipe.upscale(array, **settings)
    lazy = srpipe.upscale(da.from_array(array, chunks=(10, 12)), **settings)
    assert np.allclose(lazy.compute(scheduler="sync"), whole, atol=1e-5)


@pytest.mark.parametrize(("dtype", "times"), [("uint16", 2), ("uint32", 3)])
def test_a_lazy_array_is_never_held_as_a_whole(tmp_path, monkeypatch, dtype, times):
    """Though all of it is looked at before: for its range and for the network's statistics.

    A chunk is computed once for each of these, and once for all chunks that look into it.
    """
    import toy

    from srpipe.models import MODELS

    monkeypatch.setitem(MODELS, "toy", toy.SPEC)
    monkeypatch.setattr(api, "LEAST_SIDE", 5)
    api._upscaler.cache_clear()
    alive, seen = weakref.WeakValueDictionary(), []

    def look(block):
        made = block.copy()
        alive[object()] = made
        seen.append(len(alive))
        return made

    array = numbers((500, 120), dtype)
    lazy = da.from_array(array, chunks=20).map_blocks(look, meta=np.empty((0, 0), dtype))
    settings = {"model": "toy", "weights": toy.install(tmp_path, gated=True)}
    larger = srpipe.upscale(lazy, consistency="project", **settings)
    made = np.zeros(larger.shape, larger.dtype)
    seen.clear()
    da.store(larger, made, scheduler="sync")
    assert made.any()
    assert len(seen) <= times * 150
    assert max(seen) < 75
    seen.clear()
    larger[:1, :1].compute(scheduler="sync")
    assert max(seen) < 10


def test_small_chunks_are_joined_and_large_ones_stay():
    assert api._least((100,) * 6) == (300, 300)
    assert api._least((100, 100)) == (200,)
    assert api._least((512, 300, 10)) == (512, 310)


@pytest.mark.parametrize(
    ("shape", "order"), [((6, 4), "YX"), ((3, 6, 4), "SYX"), ((2, 3, 6, 4), "TSYX")]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_a_tensor_comes_back_as_a_tensor(upscale, shape, order, dtype):
    tensor = (torch.rand(shape) * (200 if dtype == torch.uint8 else 1)).to(dtype)
    larger = upscale(tensor)
    assert larger.dtype == dtype
    wanted = tensor.repeat_interleave(2, order.index("Y")).repeat_interleave(2, order.index("X"))
    assert torch.equal(larger, wanted)


def test_a_path_gives_the_path_of_the_result(upscale, tmp_path):
    Image.fromarray(numbers((9, 7, 3))).save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png") == tmp_path / "in_toy_x2.png"
    assert upscale(str(tmp_path / "in.png"), tmp_path / "out.png") == tmp_path / "out.png"
    assert (tmp_path / "out.png").exists()
    with pytest.raises(ConfigError, match="the output's name is empty"):
        upscale(tmp_path / "in.png", "")


def test_a_folder_gives_the_folder_of_the_results(upscale, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(numbers((9, 7, 3))).save(tmp_path / "in" / "a.png")
    assert upscale(tmp_path / "in", tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "a.png").exists()
    (tmp_path / "in" / "b.png").write_bytes(b"none")
    with pytest.raises(SrpipeError, match=r"b\.png"):
        upscale(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="name another one"):
        upscale(tmp_path / "in")


def test_arrays_are_enlarged_by_the_fidelity_weights_unless_asked(upscale):
    array = np.full((4, 4), 200, np.uint8)
    assert upscale(array).mean() == 200
    assert upscale(array, perception=1).mean() == 100


def test_what_was_not_measured_stays_and_does_not_bleed(upscale):
    array = numbers((8, 8), "float32")
    array[2:4, 5] = np.nan
    assert np.array_equal(upscale(array), doubled(array, "YX"), equal_nan=True)
    levels = np.full((4, 4), 7, np.int16)
    levels[0, 0] = -9999
    assert np.array_equal(upscale(levels, nodata=-9999), doubled(levels, "YX"))


def test_a_matrix_is_a_plane(upscale):
    plane = numbers((4, 6))
    larger = upscale(plane.view(np.matrix))
    assert type(larger) is np.ndarray
    assert np.array_equal(larger, doubled(plane, "YX"))


def test_a_range_is_what_the_network_takes_for_black_and_white(upscale):
    array = np.array([[100, 4000]], np.uint16)
    assert np.array_equal(upscale(array, perception=1, range="0,4095"), doubled(array // 2, "YX"))
    shifted = upscale(array, perception=1, range="100,4100")
    assert shifted[0].tolist() == [100, 100, 2050, 2050]


@pytest.mark.parametrize("dtype", ["int32", "uint64"])
def test_numbers_of_wide_types_do_not_drown_in_all_that_the_type_holds(upscale, dtype, monkeypatch):
    monkeypatch.setattr(api, "LEAST_SIDE", 5)
    array = (np.add.outer(np.arange(32), np.arange(40)) * 16 + 160).astype(dtype)
    array[3, 4] = 0
    wanted = doubled(array, "YX")
    assert np.array_equal(upscale(array, nodata=0), wanted)
    assert np.array_equal(upscale(torch.from_numpy(array), nodata=0).numpy(), wanted)
    lazy = upscale(da.from_array(array, chunks=(13, 9)), nodata=0)
    assert np.array_equal(lazy.compute(scheduler="sync"), wanted)


def test_an_engine_is_loaded_once_for_several_arrays(upscale, monkeypatch):
    loads = []
    real = api.Engine.upscaler
    monkeypatch.setattr(api.Engine, "upscaler", lambda *a, **k: loads.append(1) or real(*a, **k))
    for _ in range(3):
        upscale(numbers((4, 4)))
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("image", "settings", "error", "said"),
    [
        (np.zeros((4, 4, 4), "u1"), {}, ConfigError, "axes='YXC'"),
        (np.zeros((4, 4, 3, 2), "u1"), {}, ConfigError, "may be anything"),
        (np.zeros((4, 4, 3), "u1"), {"axes": "YX"}, ConfigError, "do not fit"),
        (np.zeros((4, 4, 3), "u1"), {"axes": "YYX"}, ConfigError, "do not fit"),
        (np.zeros((4, 4, 9), "u1"), {"axes": "YXS"}, ConfigError, "1 to 4 colour samples"),
        (np.zeros((0, 4), "u1"), {}, PixelError, "no pixels"),
        (np.zeros((4, 4), bool), {}, PixelError, "type bool"),
        (np.zeros((4, 4), complex), {}, PixelError, "type complex"),
        ([[1, 2], [3, 4]], {}, PixelError, "list is no array"),
        (np.zeros((4, 4), "u1"), {"scale": 1.5}, ConfigError, "whole number"),
        (np.zeros((4, 4), "u1"), {"size": "9x9"}, ConfigError, "whole number"),
        (np.zeros((4, 4), "u1"), {"scale": 3}, ConfigError, "3 times"),
        (np.zeros((4, 4), "u1"), {"modle": "x"}, ConfigError, "did you mean 'model'"),
        (np.zeros((4, 4), "u1"), {"range": "p1,p99"}, ConfigError, "percentiles are for files"),
        (np.zeros((4, 4), "u1"), {"target": "a.png"}, ConfigError, "a target is for files"),
        ("a.png", {"axes": "YX"}, ConfigError, "a file has its own"),
        (np.ma.zeros((4, 4), "u1"), {}, PixelError, "masks of NumPy are not read; fill"),
        (da.zeros((4, 4)).map_blocks(np.ma.asarray), {}, PixelError, "masks of NumPy"),
        (da.zeros((4, 4))[da.arange(4) > 2], {}, PixelError, r"call its compute_chunk_sizes\(\)"),
        (torch.eye(4).to_sparse(), {}, PixelError, "give a dense one"),
        (torch.empty(4, 4, device="meta"), {}, PixelError, "give a dense one"),
        (np.zeros((4, 4), "u1"), {"axes": ("Y", "X")}, ConfigError, "axes takes letters"),
        (np.zeros((4, 4), "u1"), {"nodata": "0"}, ConfigError, "nodata takes a number"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(upscale, image, settings, error, said):
    with pytest.raises(error, match=said) as caught:
        upscale(image, **settings)
    assert "\n" not in str(caught.value)


def test_importing_srpipe_imports_nothing_heavy():
    code = (
        "import sys, srpipe; heavy = {'torch', 'dask', 'distributed', 'av', 'napari'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"
