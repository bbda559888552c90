"""Windows: some rows and some columns of the last two axes of an array."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # the plugin's form needs windows before it needs torch
    import numpy as np
    from torch import Tensor

Span = tuple[int, int]
"""Rows, or columns, from and to."""

Rect = tuple[int, int, int, int]
"""Rows from, to, columns from, to."""

A = TypeVar("A", "np.ndarray", "Tensor")


def spans(length: int, side: int) -> list[Span]:
    """Rows, or columns, cut into parts of this many; the last one may have fewer."""
    return [(at, min(at + side, length)) for at in range(0, length, side)]


def grown(rect: Rect, by: int, height: int, width: int) -> Rect:
    """With so many more pixels on each side, as far as there are any."""
    top, bottom, left, right = rect
    return max(top - by, 0), min(bottom + by, height), max(left - by, 0), min(right + by, width)


def within(rect: Rect, outer: Rect) -> Rect:
    """A window counted from the corner of another."""
    y, x = outer[0], outer[2]
    return rect[0] - y, rect[1] - y, rect[2] - x, rect[3] - x


def scaled(rect: Rect, scale: int) -> Rect:
    """The same window of an array that is so many times as large."""
    top, bottom, left, right = rect
    return top * scale, bottom * scale, left * scale, right * scale


def cut(array: A, rect: Rect) -> A:
    """What of an array lies in a window."""
    top, bottom, left, right = rect
    return array[..., top:bottom, left:right]
