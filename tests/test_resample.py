import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpipe.errors import PixelError
from srpipe.resample import enlarge, reduce, resize


def cubic(t):
    """Keys' kernel with a = -0.5, from the paper's Eq. 15."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def imresize_line(line, length):
    """One line by MATLAB's documented algorithm, written out sample by sample."""
    ratio = length / len(line)
    width = min(ratio, 1.0)
    out = []
    for i in range(length):
        centre = (i + 0.5) / ratio - 0.5
        first = int(centre - 2 / width) - 2
        reach = torch.arange(first, first + int(4 / width) + 6, dtype=torch.float64)
        weights = cubic((centre - reach) * width)
        index = reach.long() % (2 * len(line))
        index = torch.where(index < len(line), index, 2 * len(line) - 1 - index)
        out.append((line[index] * weights).sum() / weights.sum())
    return torch.stack(out)


@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_resize_is_imresize_borders_included(scale, length, growing):
    line = torch.rand(length if growing else length * scale, dtype=torch.float64)
    target = len(line) * scale if growing else length
    ours = resize(line.view(1, 1, 1, -1), (1, target)).flatten()
    assert torch.allclose(ours, imresize_line(line, target), atol=1e-12)


def test_a_flat_image_stays_flat_at_any_size():
    flat = torch.full((1, 3, 7, 11), 0.25, dtype=torch.float64)
    assert torch.allclose(resize(flat, (10, 5)), torch.tensor(0.25, dtype=torch.float64))


def test_the_input_is_not_changed_and_the_size_is_what_was_asked_for():
    x = torch.rand(2, 1, 5, 6)
    before = x.clone()
    assert enlarge(x, 3).shape == (2, 1, 15, 18)
    assert resize(x, (5, 6)).data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


def test_half_precision_is_computed_in_full():
    x = torch.rand(1, 1, 8, 8)
    wanted = enlarge(x.bfloat16().float(), 2).bfloat16()
    assert torch.equal(enlarge(x.bfloat16(), 2), wanted)


@pytest.mark.parametrize(
    "x", [torch.rand(3, 4, 4), torch.rand(1, 3, 0, 4), torch.ones(1, 1, 2, 2).int()]
)
def test_what_is_no_image_is_refused(x):
    with pytest.raises(PixelError, match="float tensor"):
        resize(x, (4, 4))


def test_reducing_takes_multiples_only():
    with pytest.raises(PixelError, match="crop to a multiple"):
        reduce(torch.rand(1, 3, 9, 8), 4)
