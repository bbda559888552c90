"""What is said of a result is what pencil and paper say of it."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpipe.errors import PixelError
from srpipe.resample import enlarge, reduce
from srpipe.trust import (
    PROJECTION_REACH,
    REACH,
    Tally,
    added_detail,
    degraded,
    projected,
    residual,
    shift,
    warning,
)


def scene(side=192, bands=4, seed=0):
    """Blobs, edges and a little texture, (C, side, side), in [0, 1]."""
    make = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, bands, side // 16, side // 16, generator=make)
    fine = torch.rand(1, bands, side // 3, side // 3, generator=make)
    blobs = enlarge(coarse, 16) + 0.3 * enlarge(fine, 3)
    x = torch.arange(side)
    edges = 0.2 * ((x[:, None] // 11 + x // 17) % 2)
    return ((blobs + edges) / 1.6).clamp(0, 1)[0].double()


TRUTH = scene()
LOW = reduce(TRUTH[None], 4)[0]
BICUBIC = enlarge(LOW[None], 4)[0]


def noisy(seed=1, amount=0.05):
    make = torch.Generator().manual_seed(seed)
    return BICUBIC + amount * torch.randn(BICUBIC.shape, generator=make, dtype=torch.double)


def moved(rows, columns):
    """A picture whose content lies that many pixels of the result lower and to the right."""
    return BICUBIC.roll((rows, columns), (1, 2))


def tally(low, high, **options):
    found = Tally()
    found.add(low, high, **options)
    return found


def worst(low, high, name):
    return max(band[name] for band in tally(low, high).figures()["bands"])


# --- known answers -----------------------------------------------------------------------------


def test_the_truth_agrees_with_what_was_made_of_it():
    figures = tally(LOW, TRUTH).figures()
    assert "bicubic" in figures["kernel"]
    for band in figures["bands"]:
        assert band["valid"] == 48 * 48
        assert abs(band["bias"]) < 1e-12
        assert band["gain"] == pytest.approx(1, abs=1e-12)
        assert band["rmse"] < 1e-12
        assert band["added_detail"] > 0.03
    assert residual(LOW, TRUTH).abs().max() < 1e-12


def test_a_flat_picture_tells_bias_and_nothing_else():
    low = torch.full((1, 9, 7), 0.25)
    (band,) = tally(low, torch.full((1, 18, 14), 0.375)).figures()["bands"]
    assert band["bias"] == pytest.approx(0.125)
    assert band["rmse"] == pytest.approx(0.125)
    assert band["worst"] == pytest.approx(0.125)
    assert band["added_detail"] == pytest.approx(0.125)
    assert band["gain"] is None


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_adds_nothing(scale):
    assert not added_detail(LOW, enlarge(LOW[None], scale)[0]).any()


def test_gain_and_bias_are_those_that_were_put_in():
    for before, after in zip(
        tally(LOW, TRUTH).figures()["bands"],
        tally(LOW, 1.1 * TRUTH - 0.02).figures()["bands"],
        strict=True,
    ):
        assert after["gain"] == pytest.approx(1.1 * before["gain"])
    mean = float(LOW[0].mean())
    found = tally(LOW[:1], 1.1 * TRUTH[:1] - 0.02).figures()["bands"][0]
    assert found["bias"] == pytest.approx(0.1 * mean - 0.02)


def test_candidates_rank_as_they_do_in_the_literature_s_test():
    """With opensr-test 1.3.3: truth, bicubic, noise, shift, gain, from best to worst."""
    order = {
        "truth": TRUTH,
        "bicubic": BICUBIC,
        "noise": noisy(amount=0.1),
        "shift": moved(2, 0),
        "gain": 1.1 * BICUBIC,
    }
    rmse = {name: worst(LOW, high, "rmse") for name, high in order.items()}
    assert sorted(rmse, key=rmse.__getitem__)[:3] == ["truth", "bicubic", "noise"]
    assert min(rmse["shift"], rmse["gain"]) > rmse["noise"]
    detail = {name: worst(LOW, high, "added_detail") for name, high in order.items()}
    assert detail["bicubic"] == 0
    assert detail["noise"] == pytest.approx(0.1, rel=0.05)


# --- back-projection ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 96), (144, 192), (60, 71)])
def test_a_projection_agrees_with_the_input(size):
    high = torch.rand((4, *size), generator=torch.Generator().manual_seed(3), dtype=torch.double)
    before, after = residual(LOW, high), residual(LOW, projected(LOW, high))
    assert after.norm() < before.norm() / 250


def test_a_projection_is_exact_to_a_tenth_of_an_8_bit_level():
    assert residual(LOW, projected(LOW, 1.1 * BICUBIC)).square().mean().sqrt() < 0.1 / 255


def test_a_projection_changes_no_more_than_it_must():
    """What it changes lies in what the input can see: detail that the kernel is blind to stays."""
    noise = noisy() - BICUBIC
    unseen = projected(torch.zeros_like(LOW), noise)  # the kernel sees nothing in it
    assert unseen.norm() > 0.9 * noise.norm()
    assert (projected(LOW, TRUTH + unseen) - TRUTH - unseen).abs().max() < 1e-3


def test_invention_survives_a_projection():
    high = projected(LOW, noisy())
    assert worst(LOW, high, "rmse") < 1e-4
    assert worst(LOW, high, "added_detail") > 0.045


def test_a_projection_reaches_as_far_as_it_says():
    side, scale = 2 * PROJECTION_REACH + 9, 2
    low = torch.rand(1, side, side, dtype=torch.double, requires_grad=True)
    high = torch.rand(1, side * scale, side * scale, dtype=torch.double, requires_grad=True)
    middle = side // 2
    projected(low, high)[0, middle * scale, middle * scale].backward()
    assert farthest(low.grad, 1, middle) <= PROJECTION_REACH
    assert farthest(high.grad, scale, middle) == PROJECTION_REACH


def farthest(grad, scale, middle):
    rows = grad[0].abs().sum(1).nonzero()[:, 0] // scale
    return int((rows - middle).abs().max())


# --- shift -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, -2, 4])
@pytest.mark.parametrize("columns", [0, 3, -9])
def test_a_shift_is_found_to_a_tenth_of_an_input_pixel(rows, columns):
    found = shift(LOW, moved(rows, columns))
    assert found == pytest.approx((rows / 4, columns / 4), abs=0.1)


def test_an_exact_result_is_not_shifted():
    assert shift(LOW, TRUTH) == (0, 0)
    assert shift(LOW, noisy()) == pytest.approx((0, 0), abs=0.02)
    assert shift(LOW, 1.1 * BICUBIC + 3) == (0, 0)


def test_a_plain_or_tiny_picture_has_no_shift_to_tell():
    assert shift(torch.full((1, 32, 32), 0.3), torch.full((1, 64, 64), 0.3)) is None
    assert shift(LOW[:, :7], BICUBIC[:, :28]) is None


# --- counting in parts -------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_tally_is_the_same_however_a_picture_is_cut(data):
    height, width = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    scale, bands = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    make = torch.Generator().manual_seed(height + width)
    low = torch.rand(bands, height, width, generator=make)
    high = torch.rand(bands, height * scale, width * scale, generator=make)
    valid = torch.rand(low.shape, generator=make) < data.draw(st.sampled_from([0.9, 0.98, 2]))
    low[~valid] = float("nan")
    step = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    parts = []
    for top in range(0, height, step[0]):
        for left in range(0, width, step[1]):
            bottom, right = min(top + step[0], height), min(left + step[1], width)
            y, x = max(top - REACH, 0), max(left - REACH, 0)
            y_to, x_to = min(bottom + REACH, height), min(right + REACH, width)
            rows, columns = slice(y * scale, y_to * scale), slice(x * scale, x_to * scale)
            part = tally(
                low[:, y:y_to, x:x_to],
                high[:, rows, columns],
                valid=valid[:, y:y_to, x:x_to],
                inner=(top - y, bottom - y, left - x, right - x),
                clipped=1,
            )
            parts.append(Tally.from_dict(json.loads(json.dumps(part.to_dict()))))
    merged = Tally()
    for part in reversed(parts):
        merged.merge(part)
    whole = tally(low, high, valid=valid)
    assert merged.clipped == len(parts)
    for one, other in zip(merged.figures()["bands"], whole.figures()["bands"], strict=True):
        assert {k for k in one if one[k] is None} == {k for k in other if other[k] is None}
        told = {name: value for name, value in other.items() if value is not None}
        assert {name: one[name] for name in told} == pytest.approx(told, rel=1e-6, abs=1e-9)


def test_what_was_not_measured_is_counted_and_does_not_bleed():
    low, high = LOW.clone(), TRUTH.clone()
    low[:, 20:23, 20:23] = float("nan")
    high[:, 80:92, 80:92] = float("nan")
    valid = ~low.isnan()
    for band in tally(low, high, valid=valid).figures()["bands"]:
        assert band["invalid"] == 9
        assert band["valid"] == 48 * 48 - 7 * 7
        assert band["rmse"] < 1e-12
    (nothing,) = tally(low[:1], high[:1], valid=torch.zeros_like(valid[:1])).figures()["bands"]
    assert nothing["rmse"] is None
    assert nothing["added_detail"] is None


def test_pictures_of_other_bands_are_not_compared():
    with pytest.raises(PixelError, match="compared"):
        residual(LOW, BICUBIC[:2])
    found = tally(LOW, BICUBIC)
    with pytest.raises(PixelError, match="2 bands, and those before 4"):
        found.add(LOW[:2], BICUBIC[:2])
    with pytest.raises(PixelError, match="cannot join"):
        found.merge(tally(LOW[:2], BICUBIC[:2]))


def test_degrading_goes_to_any_size():
    assert degraded(torch.rand(3, 20, 30), (7, 9)).shape == (3, 7, 9)


def test_only_fidelity_weights_come_without_a_warning():
    assert warning(0.0) is None
    assert "not for counting" in (warning(0.5) or "")
    assert warning(None) == warning(1.0)
