from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpipe.color import from_rgb, to_rgb
from srpipe.errors import ConfigError, PixelError
from srpipe.pixels import Layout, sample_type

GRIDS = [(1, 1), (1, 2), (2, 2), (2, 1), (1, 4), (4, 4)]
SITES = ["left", "center", "topleft"]
MATRICES = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114)}
MATRICES |= {7: (0.212, 0.087), 9: (0.2627, 0.0593)}


def yuv(**known):
    return Layout(**({"family": "yuv", "full_range": False, "matrix": 1} | known))


def flat(rgb, side=4):
    return torch.tensor(rgb, dtype=torch.float32).reshape(1, -1, 1, 1).expand(1, -1, side, side)


def codes(planes):
    return tuple(int(plane[0, 0]) for plane in planes)


@pytest.mark.parametrize(
    ("layout", "rgb", "expected"),
    [  # by hand from BT.709, BT.601 and BT.2020; the 8-bit bars are the well-known ones
        (yuv(), (1, 1, 1), (235, 128, 128)),
        (yuv(), (0, 0, 0), (16, 128, 128)),
        (yuv(), (1, 0, 0), (63, 102, 240)),
        (yuv(), (0, 1, 0), (173, 42, 26)),
        (yuv(), (0, 0, 1), (32, 240, 118)),
        (yuv(bits=10), (1, 0, 0), (250, 409, 960)),
        (yuv(bits=10), (1, 1, 1), (940, 512, 512)),
        (yuv(bits=12), (0, 0, 0), (256, 2048, 2048)),
        (yuv(matrix=6), (1, 0, 0), (81, 90, 240)),
        (yuv(matrix=5), (0, 1, 0), (145, 54, 34)),
        (yuv(matrix=6), (0, 0, 1), (41, 240, 110)),
        (yuv(matrix=6, full_range=True), (1, 0, 0), (76, 85, 255)),
        (yuv(matrix=1, full_range=True), (0, 1, 0), (182, 30, 12)),
        (yuv(matrix=1, full_range=True, bits=10), (1, 1, 1), (1023, 512, 512)),
        (yuv(matrix=9, bits=10), (1, 0, 0), (294, 387, 960)),
        (yuv(matrix=0), (1, 0, 0), (16, 16, 235)),
        (yuv(matrix=8, full_range=True, bits=10), (0, 1, 0), (512, 1023, 512)),
    ],
)
def test_pure_colours_have_the_codes_of_the_standards(layout, rgb, expected):
    planes = from_rgb(flat(rgb), layout)
    assert codes(planes) == expected
    back = to_rgb(planes, layout)[0, :, 0, 0]
    assert torch.allclose(back, torch.tensor(rgb, dtype=torch.float32), atol=0.012)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full_range", [False, True])
def test_the_matrix_is_the_formula_of_the_standard(matrix, full_range):
    kr, kb = MATRICES[matrix]
    layout = yuv(matrix=matrix, full_range=full_range, bits=10)
    y, u, v = (torch.randint(64, 941, (5, 7), dtype=torch.int32) for _ in range(3))
    black, gain, span = (0, 1023, 1023) if full_range else (64, 876, 896)
    luma, blue, red = (y - black) / gain, (u - 512) / span, (v - 512) / span
    r = luma + 2 * (1 - kr) * red
    b = luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    rgb = to_rgb([p.to(torch.uint16) for p in (y, u, v)], layout)
    assert torch.allclose(rgb[0], torch.stack([r, g, b]), atol=2e-6)


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
@pytest.mark.parametrize("full_range", [False, True])
def test_every_gray_code_comes_back_as_it_was(bits, full_range):
    layout = yuv(bits=bits, full_range=full_range)
    luma = torch.arange(2**bits, dtype=torch.int32).reshape(1, -1).to(sample_type(bits))
    none = torch.full(luma.shape, 1 << (bits - 1), dtype=torch.int32).to(sample_type(bits))
    planes = from_rgb(to_rgb([luma, none, none], layout), layout)
    assert torch.equal(planes[0].int(), luma.int())
    assert (planes[1].int() - none.int()).abs().max() <= 1


@pytest.mark.parametrize("matrix", [0, 1, 6, 8, 9])
def test_codes_beyond_white_and_black_survive_without_subsampling(matrix):
    layout = yuv(matrix=matrix)
    planes = [torch.randint(0, 256, (16, 16), dtype=torch.uint8) for _ in range(3)]
    rgb = to_rgb(planes, layout)
    assert rgb.max() > 1
    assert rgb.min() < 0
    for before, after in zip(planes, from_rgb(rgb, layout), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("sub_y", "sub_x"), GRIDS)
def test_a_ramp_survives_chroma_going_down_and_up(site, sub_y, sub_x):
    layout = yuv(bits=16, sub_y=sub_y, sub_x=sub_x, chroma_site=site)
    down, along = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = 0.2 + along / 128 + down / 400
    rgb = torch.stack([ramp, 0.7 - ramp / 2, 0.9 - ramp])[None]
    back = to_rgb(from_rgb(rgb, layout), layout)
    middle = (..., slice(20, 44), slice(20, 44))
    assert (back - rgb)[middle].abs().max() < 1e-4


@pytest.mark.parametrize(("site", "offset"), [("left", 0.0), ("center", 0.5), ("topleft", 0.0)])
def test_chroma_sits_where_its_site_says(site, offset):
    """A ramp in red-difference: sample j of 4:2:0 is the ramp's value at column 2 j + offset."""
    layout = yuv(bits=16, sub_y=2, sub_x=2, chroma_site=site)
    columns = torch.arange(64.0)
    chroma = (columns - 32) / 128
    rgb = torch.stack([chroma * 1.5748, chroma * -0.46812427, chroma * 0])
    rgb = (0.5 + rgb)[:, None].expand(3, 8, 64)[None]
    v = from_rgb(rgb, layout)[2].int()[0, 10:22]
    at = 2 * torch.arange(10.0, 22.0) + offset
    assert ((v - 32768) / 57344 - (at - 32) / 128).abs().max() < 1e-4


def test_rows_of_chroma_are_midway_but_for_topleft():
    lines = torch.arange(64.0)
    rgb = (lines / 128)[None, :, None].expand(3, 64, 8) * torch.tensor([1.0, 0, 0])[:, None, None]
    found = {}
    for site in SITES:
        layout = yuv(bits=16, sub_y=2, sub_x=2, chroma_site=site)
        v = (from_rgb(rgb[None], layout)[2].int()[12, 2] - 32768) / 57344
        found[site] = float(v / 0.5 * 128)  # pure red of strength s has V = s / 2
    assert found == pytest.approx({"left": 24.5, "center": 24.5, "topleft": 24.0}, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    grid=st.sampled_from(GRIDS),
    site=st.sampled_from(SITES),
    bits=st.sampled_from([8, 10, 16]),
    alpha=st.booleans(),
)
def test_any_size_and_grid_goes_there_and_back(height, width, grid, site, bits, alpha):
    layout = yuv(bits=bits, sub_y=grid[0], sub_x=grid[1], chroma_site=site, alpha=alpha)
    rgb = flat([0.3, 0.6, 0.2, 0.4][: 3 + alpha], 1).expand(1, 3 + alpha, height, width)
    planes = from_rgb(rgb, layout)
    small = (-(-height // grid[0]), -(-width // grid[1]))
    full = (height, width)
    assert [tuple(p.shape) for p in planes] == [full, small, small] + [full] * alpha
    assert {p.dtype for p in planes} == {sample_type(bits)}
    back = to_rgb(planes, layout)
    assert back.shape == rgb.shape
    assert (back - rgb).abs().max() < 1.5 / 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("family", ["rgb", "gray"])
@pytest.mark.parametrize("alpha", [False, True])
def test_rgb_and_gray_arrays_come_back_as_they_were(bits, family, alpha):
    layout = Layout(family=family, bits=bits, alpha=alpha)
    channels = (3 if family == "rgb" else 1) + alpha
    if bits == 32:
        array = torch.rand(5, 6, channels) * 3 - 1
    else:
        array = torch.randint(0, 2**bits, (5, 6, channels), dtype=torch.int32)
        array = array.to(sample_type(bits))
    rgb = to_rgb([array], layout)
    assert rgb.shape == (1, 3 + alpha, 5, 6)
    back = from_rgb(rgb, layout)[0]
    assert back.dtype == array.dtype
    assert torch.allclose(back.double(), array.double(), atol=1e-6)


def test_alpha_is_made_opaque_or_left_out_as_the_layout_wants():
    opaque = from_rgb(flat((0.1, 0.2, 0.3)), yuv(alpha=True))
    assert int(opaque[3].min()) == 255
    assert len(from_rgb(flat((0.1, 0.2, 0.3, 0.4)), yuv())) == 3


@pytest.mark.parametrize(("matrix", "word"), [(10, "constant"), (2, "unspecified"), (14, "14")])
def test_matrices_that_are_not_handled_are_named(matrix, word):
    plane = torch.full((2, 2), 128, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=word):
        to_rgb([plane] * 3, yuv(matrix=matrix))


def test_planes_that_do_not_fit_the_layout_are_refused():
    plane = torch.zeros(4, 4, dtype=torch.uint8)
    with pytest.raises(PixelError, match="uint16"):
        to_rgb([plane] * 3, yuv(bits=10))
    with pytest.raises(PixelError, match="wanted"):
        to_rgb([plane] * 3, yuv(sub_y=2, sub_x=2))
    with pytest.raises(PixelError, match="wanted"):
        to_rgb([plane] * 3, yuv(alpha=True))
    with pytest.raises(PixelError, match="H, W, 3"):
        to_rgb([plane], Layout(family="rgb"))
    with pytest.raises(PixelError, match="float32"):
        to_rgb([plane.float()] * 3, replace(yuv(), bits=32))
    with pytest.raises(PixelError, match="1, 3 or 4"):
        from_rgb(torch.zeros(2, 3, 4, 4), yuv())
