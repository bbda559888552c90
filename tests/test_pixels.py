import numpy as np
import pytest
import torch

from srpipe.errors import PixelError
from srpipe.pixels import Range, declared_range, extreme_range, percentile_range


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_every_number_of_a_small_type_survives_its_declared_range(dtype):
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    known = declared_range(every.dtype)
    unit = known.to_unit(every)
    assert (float(unit[0]), float(unit[-1])) == (0, 1)
    back, clipped = known.from_unit(unit, every.dtype)
    assert np.array_equal(back, every)
    assert clipped == 0


def test_floats_are_kept_as_they_are_beyond_0_and_1_too():
    values = np.float32([-3, 0.1, 1.5, 1e30, np.nan])
    known = declared_range(values.dtype)
    assert known.to_unit(values).numpy().tobytes() == values.tobytes()
    back, clipped = known.from_unit(torch.from_numpy(values), values.dtype)
    assert back.tobytes() == values.tobytes()
    assert clipped == 0


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_numbers_that_float32_cannot_hold_are_called_so(value):
    with pytest.raises(PixelError, match="holds numbers beyond what float32 can hold"):
        Range(0, 1).to_unit(np.array([0, value]))


def test_bits_that_are_not_in_use_do_not_count():
    assert declared_range(np.dtype(np.uint16), 12) == Range(0, 4095)
    assert declared_range(np.dtype(np.int16), 12) == Range(-32768, 32767)


def test_what_an_integer_type_cannot_hold_is_counted():
    known = Range(100, 200)
    unit = torch.tensor([0.0, 0.5, 1.0, 1.5, 1.56, -1.0, -1.01, torch.nan])
    back, clipped = known.from_unit(unit, np.dtype(np.uint8))
    assert back.tolist() == [100, 150, 200, 250, 255, 0, 0, 0]
    assert clipped == 3
    assert Range(0, 10).to_unit(np.uint8([20])).item() == 2  # nothing is clamped on the way in


@pytest.mark.parametrize(
    ("dtype", "most"), [("float16", 65504), ("float32", 3.4028234663852886e38)]
)
def test_what_a_float_type_cannot_hold_is_counted_and_is_no_infinity(dtype, most):
    unit = torch.tensor([0.5, 1.0, 2.0, -2.0, torch.nan], dtype=torch.float64)
    back, clipped = Range(0, most).from_unit(unit, np.dtype(dtype))
    assert back.tolist()[1:4] == [most, most, -most]
    assert np.isnan(back[4])
    assert clipped == 2


def test_bits_that_are_not_in_use_are_not_taken_either():
    known = declared_range(np.dtype(np.uint16), 12)
    unit = torch.tensor([0.5, 1.0, 1.2, -0.1])
    back, clipped = known.from_unit(unit, np.dtype(np.uint16), 12)
    assert (back.tolist(), clipped) == ([2048, 4095, 4095, 0], 2)
    back, clipped = known.from_unit(unit, np.dtype(np.int16), 12)
    assert (back.tolist(), clipped) == ([2048, 4095, 4914, -410], 0)
    assert declared_range(np.dtype(np.uint8), 16) == Range(0, 255)
    top, _ = Range(0, 2**60).from_unit(torch.tensor([1.0]), np.dtype(np.uint64), 60)
    assert 2**59 < top.item() < 2**60


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint64", "int64"])
def test_wide_types_do_not_overflow(dtype):
    known = declared_range(np.dtype(dtype))
    back, _ = known.from_unit(torch.tensor([-1.0, 0.0, 1.0, 2.0]), np.dtype(dtype))
    assert back[0] == back[1] == np.iinfo(dtype).min
    assert back[2] == back[3] > np.iinfo(dtype).max * 0.9999


@pytest.mark.parametrize(
    "ends", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1), (0, 1e-300), (-1.7e308, 1.7e308)]
)
def test_a_range_without_room_is_refused(ends):
    with pytest.raises(PixelError, match="has no room"):
        Range(*ends)


def test_percentiles_of_pieces_are_those_of_all():
    values = np.random.default_rng(1).normal(size=20000).astype(np.float32)
    pieces = np.array_split(values, 7)
    found = percentile_range(pieces, 2, 98)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2, 98])))
    assert percentile_range(pieces, 0, 100) == Range(values.min(), values.max())


def test_percentiles_of_more_than_is_kept_come_from_an_even_sample(monkeypatch):
    monkeypatch.setattr("srpipe.pixels._SAMPLE", 1000)
    values = np.arange(30011)
    found = percentile_range(np.array_split(values, 11), 10, 100)
    assert found.low == pytest.approx(3001, abs=60)
    assert found.high == 30010


def test_percentiles_of_nothing_are_refused():
    with pytest.raises(PixelError, match="no valid number"):
        percentile_range([], 1, 99)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_numbers_of_wide_types_come_back_within_their_own_extremes(dtype):
    top = np.iinfo(dtype).max // 2
    values = (np.arange(5000) * 40 + top).astype(dtype)
    assert declared_range(values.dtype).coarse
    known = extreme_range(np.array_split(values, 7))
    back, _ = known.from_unit(known.to_unit(values), values.dtype)
    step = max(1, int(np.spacing(float(top))))  # of float64, which holds the ends
    assert np.abs(back.astype(np.float64) - values.astype(np.float64)).max() <= step


def test_the_range_of_small_types_and_few_bits_is_fine_enough():
    assert not declared_range(np.dtype(np.uint16)).coarse
    assert not declared_range(np.dtype(np.uint32), 24).coarse
    assert not declared_range(np.dtype(np.float64)).coarse


@pytest.mark.parametrize("values", [[], [7, 7], [2**60], [-3]])
def test_extremes_of_one_number_or_none_have_room(values):
    found = extreme_range([np.array(values, np.int64)])
    assert found.low == min(values, default=0)
    assert found.high > found.low
