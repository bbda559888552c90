"""A block is what the whole would be there, wherever else the array is cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_every_model import DEPTHS, awake, every_model
from test_infer import Coarse, Smooth, Stack, upscaler
from torch import nn

from srpipe.blocks import Blocks, Counts, Numbers
from srpipe.errors import Cancelled, ConfigError, DeviceError
from srpipe.models import MODELS
from srpipe.models.pooling import ChannelGate, held, whole
from srpipe.pixels import Range
from srpipe.trust import Tally, residual
from srpipe.validity import enlarged

UNIT = Range(0.0, 1.0)


class Repeat(nn.Module):
    """Each pixel repeated."""

    def __init__(self, scale=1):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Gated(Stack):
    """What it makes of a pixel depends on the mean of all."""

    def __init__(self):
        super().__init__()
        self.gate = ChannelGate(3, 1)
        self.smallest = 1

    def forward(self, x):
        return super().forward(self.gate(x * 4))


def repeating(dtype, bands=1, scale=1, **facts):
    numbers = Numbers.of(np.dtype(dtype), ["gray"] * bands, **facts)
    return Blocks(upscaler(Repeat(scale), scale=scale, halo=0), numbers)


def pieces(blocks, pixels, valid, side):
    """The result of an array that is read as blocks want it, in squares of a side."""
    height, width = pixels.shape[1:]
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(top + side, height), min(left + side, width)
            y0, y1, x0, x1 = blocks.read_for((top, bottom, left, right), height, width)
            inner = (top - y0, bottom - y0, left - x0, right - x0)
            part = np.s_[:, y0:y1, x0:x1]
            yield (
                (top, bottom, left, right),
                pixels[part],
                None if valid is None else valid[part],
                inner,
            )


def joined(blocks, pixels, valid=None, side=10**6, **options):
    """The whole result, the counts and the tally."""
    scale = blocks.scale
    height, width = (length * scale for length in pixels.shape[1:])
    out = np.zeros((len(pixels), height, width), pixels.dtype)
    counts, tally = Counts(), Tally()
    for (top, bottom, left, right), part, mask, inner in pieces(blocks, pixels, valid, side):
        made = blocks.enlarged(part, mask, inner, **options)
        out[:, top * scale : bottom * scale, left * scale : right * scale] = made.pixels
        counts += made.counts
        if made.tally:
            tally.merge(made.tally)
    return out, counts, tally


def noise(bands, height, width, seed=0):
    return np.random.default_rng(seed).random((bands, height, width), np.float32)


sizes = st.integers(1, 70)


@settings(max_examples=12, deadline=None)
@given(sizes, sizes, st.integers(5, 40), st.sampled_from([1, 3, 4, 13]), st.sampled_from([1, 2, 3]))
def test_blocks_join_to_the_whole(height, width, side, bands, scale):
    pixels = noise(bands, height, width)
    numbers = Numbers.of(
        pixels.dtype, ["red", "green", "blue", "alpha"][:bands] + ["x"] * (bands - 4)
    )
    blocks = Blocks(upscaler(Stack(scale=scale), scale=scale, tile=24), numbers)
    expected, _, _ = joined(blocks, pixels)
    assert np.abs(joined(blocks, pixels, side=side)[0] - expected).max() < 1e-5


@settings(max_examples=12, deadline=None)
@given(sizes, sizes, st.integers(3, 40), st.booleans())
def test_where_a_network_works_in_squares_blocks_keep_them_in_place(height, width, side, ensemble):
    pixels = noise(1, height, width)
    made = upscaler(Coarse(), halo=7, alignment=4, ensemble=ensemble)
    blocks = Blocks(made, Numbers.of(pixels.dtype, ["gray"]))
    expected = joined(blocks, pixels)[0]
    assert np.abs(joined(blocks, pixels, side=side)[0] - expected).max() < 1e-5


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 99), st.integers(5, 40), st.floats(0, 1))
def test_no_gap_bleeds_and_none_depends_on_the_cut(seed, side, share):
    rng = np.random.default_rng(seed)
    pixels = rng.random((2, 41, 37), np.float32)
    valid = rng.random(pixels.shape) < share
    other = np.where(valid, pixels, np.nan)
    pixels = np.where(valid, pixels, 1e6).astype(np.float32)
    blocks = Blocks(upscaler(Stack()), Numbers.of(pixels.dtype, ["gray"] * 2))
    expected, counts, _ = joined(blocks, pixels, valid)
    found, cut_counts, _ = joined(blocks, other, valid, side)
    known = enlarged(valid, 2)
    assert np.abs(np.where(known, found - expected, 0)).max() < 1e-5
    assert np.isnan(found[~known]).all()
    assert counts == cut_counts == Counts(invalid=int((~valid).sum()))


@settings(max_examples=5, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(5, 40))
def test_projection_and_tally_do_not_depend_on_the_cut(height, width, side):
    pixels = (noise(1, height, width) * 60000).astype(np.uint16)
    numbers = Numbers.of(pixels.dtype, ["gray"])
    blocks = Blocks(upscaler(Stack()), numbers, project=True, tally=True)
    expected, counts, tally = joined(blocks, pixels)
    found, cut_counts, cut_tally = joined(blocks, pixels, side=side)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert cut_counts.clipped == pytest.approx(counts.clipped, abs=2)
    for name, value in tally.figures()["bands"][0].items():
        assert cut_tally.figures()["bands"][0][name] == pytest.approx(value, rel=1e-3, abs=0.01)


def test_what_is_projected_is_its_input_again_when_degraded_back():
    pixels = noise(3, 30, 30) / 2 + 0.25
    numbers = Numbers.of(pixels.dtype, ["red", "green", "blue"])
    low = torch.from_numpy(pixels)
    plain, kept = (
        float(residual(low, torch.from_numpy(joined(blocks, pixels, side=16)[0])).abs().max())
        for blocks in (
            Blocks(upscaler(Stack()), numbers),
            Blocks(upscaler(Stack()), numbers, project=True),
        )
    )
    assert kept < plain / 100


@pytest.mark.parametrize("side", [7, 20])
def test_blocks_of_a_network_that_sees_far_are_mixed_beyond_their_edges(side):
    pixels = noise(1, 64, 64)
    numbers = Numbers.of(pixels.dtype, ["gray"])
    blocks = Blocks(upscaler(Smooth(), halo=6, exact=False), numbers)
    exact = Blocks(upscaler(Smooth(), halo=12), numbers)
    off = np.abs(joined(blocks, pixels, side=side)[0] - joined(exact, pixels)[0]).max()
    assert off < 1e-5


@every_model
def test_blocks_of_every_model_join_to_the_whole(name):
    spec = MODELS[name]
    scale = spec.scales[0]
    options = dict(spec.presets["lite"])
    options |= {key: 1 for key in DEPTHS if key in spec.build.__init__.__kwdefaults__}
    torch.manual_seed(0)
    network = awake(spec.build(scale=scale, **options))
    pixels = noise(3, 40, 150)
    made = upscaler(
        network, scale=scale, halo=spec.halo(scale=scale, **options), alignment=spec.alignment
    )
    blocks = Blocks(made, Numbers.of(pixels.dtype, ["red", "green", "blue"]))
    x = torch.from_numpy(pixels)[None]
    statistics = whole(made.network, x)
    shared = {f"0.{key}": value for key, value in statistics.items()} or None
    with torch.no_grad(), held(made.network, statistics):
        expected = made.network(x)[0].numpy()
    found = joined(blocks, pixels, side=45, statistics=shared)[0]
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_statistics_of_the_whole_bring_blocks_20_times_nearer_to_it():
    rows = np.linspace(0, 1, 96, dtype=np.float32)[:, None]
    pixels = (noise(4, 96, 96) * rows)[:, :, :96]
    numbers = Numbers.of(pixels.dtype, ["red", "green", "blue", "other"])
    blocks = Blocks(upscaler(Gated(), tile=32), numbers)
    reference = Blocks(upscaler(Gated()), numbers)
    expected = joined(reference, pixels)[0]

    def read(plane, rows, columns):
        assert plane == 0
        return pixels[:, slice(*rows), slice(*columns)], None

    shared = blocks.statistics(read, blocks.sample(96, 96))
    assert {key.partition(".")[0] for key in shared} == {"0", "1"}
    plain = np.abs(joined(blocks, pixels, side=24)[0] - expected).max()
    near = np.abs(joined(blocks, pixels, side=24, statistics=shared)[0] - expected).max()
    assert near < plain / 20
    again = joined(blocks, pixels, side=31, statistics=shared)[0]
    assert np.abs(again - joined(blocks, pixels, side=24, statistics=shared)[0]).max() < 1e-5


def test_statistics_are_those_of_all_planes_and_of_what_was_measured():
    stack = np.concatenate([np.full((2, 1, 40, 40), 0.2), np.full((2, 1, 40, 40), 0.6)])
    stack = stack.astype(np.float32)
    valid = np.ones(stack.shape, bool)
    valid[3] = False
    blocks = Blocks(upscaler(Gated(), tile=16), Numbers.of(stack.dtype, ["gray"]))

    def read(plane, rows, columns):
        at = np.s_[plane, :, slice(*rows), slice(*columns)]
        return stack[at], valid[at]

    sample = blocks.sample(40, 40, planes=4)
    (found,) = blocks.statistics(read, sample).values()
    assert found.flatten()[0] == pytest.approx(4 * (0.2 + 0.2 + 0.6) / 3, abs=1e-5)
    with pytest.raises(Cancelled):
        blocks.statistics(read, sample, cancelled=lambda: True)


def test_fewer_windows_at_once_where_memory_runs_out():
    seen = []

    class Heavy(Gated):
        def forward(self, x):
            seen.append(len(x))
            if len(x) > most:
                raise MemoryError
            return super().forward(x)

    pixels = noise(3, 96, 96)
    most = 10**9
    blocks = Blocks(upscaler(Heavy(), tile=32), Numbers.of(pixels.dtype, ["red", "green", "blue"]))
    sample = replace(blocks.sample(96, 96), at_once=8)

    def read(_plane, rows, columns):
        return pixels[:, slice(*rows), slice(*columns)], None

    (all_of_it,) = blocks.statistics(read, sample).values()
    most = 3
    seen.clear()
    (found,) = blocks.statistics(read, sample).values()
    assert seen[:4] == [8, 4, 2, 2]
    assert torch.allclose(found, all_of_it, atol=1e-6)
    most = 0
    with pytest.raises(DeviceError, match="even with one window of 16 px"):
        blocks.statistics(read, sample)


@pytest.mark.parametrize(
    ("dtype", "value", "high"), [("uint8", 40, 255), ("int64", 2**63 - 1, 2e19), ("float32", 3, 9)]
)
def test_how_wide_a_gap_is_makes_no_difference_to_what_lies_beside_it(dtype, value, high):
    """Where a layer averages over all of a block, too."""
    numbers = Numbers.of(np.dtype(dtype), ["gray"], within=Range(0, high), nodata=0)
    blocks = Blocks(upscaler(Gated()), numbers)
    found = []
    for width in (60, 200):
        pixels = np.zeros((1, 40, width), dtype)
        pixels[:, :, :40] = value
        made = blocks.enlarged(pixels, pixels != 0, (0, 40, 0, width)).pixels
        found.append(made[..., : 40 * blocks.scale].astype(float))
    assert found[0].any()
    assert np.allclose(found[0], found[1], rtol=1e-3)


def test_a_network_that_is_local_needs_no_statistics():
    blocks = Blocks(upscaler(Stack()), Numbers.of(np.dtype("uint8"), ["gray"]))
    sample = blocks.sample(10**5, 10**5, planes=9)
    assert blocks.statistics(lambda *_: 1 / 0, sample) is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_what_the_network_leaves_alone_comes_back_bit_for_bit(dtype, bands):
    rng = np.random.default_rng(1)
    if dtype == "float32":
        pixels = (rng.standard_normal((bands, 90, 91)) * 3).astype(dtype)
        pixels[:, 3, 4], pixels[:, 5, 6], pixels[:, 7, 8] = np.nan, np.inf, 1e30
    else:
        limits = np.iinfo(dtype)
        pixels = rng.integers(limits.min, limits.max, (bands, 90, 91), dtype, endpoint=True)
    colours = ["red", "green", "blue", "alpha"][:bands]
    valid = np.isfinite(pixels) if dtype == "float32" else None
    blocks = Blocks(upscaler(Repeat(), scale=1, halo=0), Numbers.of(np.dtype(dtype), colours))
    found, counts, _ = joined(blocks, pixels, valid, side=40)
    assert found.tobytes() == pixels.tobytes()
    assert (counts.clipped, counts.moved) == (0, 0)


def test_what_became_of_the_numbers_is_counted():
    class Twice(Repeat):
        def forward(self, x):
            return super().forward(x) * 2

    pixels = np.uint8([[[0, 100, 200, 7]]])
    numbers = Numbers.of(pixels.dtype, ["gray"], nodata=14, within=Range(10, 110))
    blocks = Blocks(upscaler(Twice(2), scale=2, halo=0), numbers)
    found, counts, _ = joined(blocks, pixels, pixels != 0)
    #  100 is 0.9 of the range, which is 190 twice; 200 is 390; 7 is 4; the gap stays
    assert found[0, 0, ::2].tolist() == [0, 190, 255, 4]
    assert counts == Counts(clipped=4, moved=0, invalid=1, outside=2)
    moved = joined(repeating("uint8", scale=2, nodata=7), pixels)
    assert moved[0][0, 0, ::2].tolist() == [0, 100, 200, 8]
    assert moved[1].moved == 4


def test_a_block_without_any_measurement_asks_no_network():
    blocks = repeating("int16", bands=2, scale=2, nodata=-1)
    blocks._upscaler = None
    blocks.__class__ = type("Still", (Blocks,), {"scale": 2, "_aligned": None})
    gap = np.full((2, 4, 4), -1, np.int16)
    made = blocks.enlarged(gap, gap != -1, (0, 4, 0, 4))
    assert (made.pixels == -1).all()
    assert not made.valid.any()


def test_red_green_and_blue_go_together_and_other_bands_alone():
    colours = ["blue", "green", "red", "undefined", "alpha"]
    numbers = Numbers.of(np.dtype("uint16"), colours)
    assert numbers.groups == ((2, 1, 0), (3,))
    assert numbers.nearest == (4,)
    assert numbers.range == Range(0, 65535)
    assert Numbers.of(np.dtype("uint16"), colours[:2], bits=12).range == Range(0, 4095)
    assert Numbers.of(np.dtype("uint8"), ["red", "red", "blue"]).groups == ((0,), (1,), (2,))
    named = Numbers.of(np.dtype("uint8"), ["x"] * 5, groups=[(4, 2, 0), (1,)])
    assert named.groups == ((1,), (3,), (4, 2, 0))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([(0, 1)], "bands 0, 1 cannot go together"),
        ([(5,)], "no band 5; there are 0 to 3"),
        ([(3,)], "band 3 is opacity"),
        ([(0,), (0, 1, 2)], "band 0 is in two groups"),
    ],
)
def test_groups_that_make_no_sense_are_named(groups, words):
    with pytest.raises(ConfigError, match=words):
        Numbers.of(np.dtype("uint8"), ["x", "x", "x", "alpha"], groups=groups)


def test_three_bands_as_colours_are_not_three_greys():
    class Turned(Repeat):
        def forward(self, x):
            return super().forward(x).roll(1, 1)

    pixels = noise(3, 5, 5)
    made = upscaler(Turned(), scale=1, halo=0)
    colour = Blocks(made, Numbers.of(pixels.dtype, ["red", "green", "blue"]))
    grey = Blocks(made, Numbers.of(pixels.dtype, ["x"] * 3))
    assert np.array_equal(joined(colour, pixels)[0], np.roll(pixels, 1, 0))
    assert np.array_equal(joined(grey, pixels)[0], pixels)
