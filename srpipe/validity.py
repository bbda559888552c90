"""Which numbers of a raster mean something, and how those that do not stay out of the others.

Before the network, pixels without a value get that of their nearest neighbour that has one, so
that no "nodata" number and no NaN reaches a valid pixel. Afterwards they get back what they were.
"""

from collections.abc import Sequence

import numpy as np


def holds(dtype: np.dtype, value: float) -> bool:
    """Whether an array of this type can have this number."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def valid_of(
    pixels: np.ndarray, nodata: float | None, opacity: Sequence[int] = ()
) -> np.ndarray | None:
    """Which numbers are finite, not `nodata`, and not under an opacity of 0; None if all are.

    Parameters
    ----------
    pixels : array (..., H, W), or (..., C, H, W) where there is opacity
    opacity : bands that are; one of them hides all others, of several it is open which is whose
    """
    valid = np.isfinite(pixels) if pixels.dtype.kind == "f" else np.ones(pixels.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        valid &= pixels != pixels.dtype.type(nodata) if holds(pixels.dtype, nodata) else True
    if len(opacity) == 1:
        others = [i for i in range(pixels.shape[-3]) if i not in opacity]
        valid[..., others, :, :] &= pixels[..., opacity, :, :] != 0
    return None if valid.all() else valid


def fill(
    pixels: np.ndarray, valid: np.ndarray, *, reach: int, rest: float | Sequence[float]
) -> np.ndarray:
    """The same pixels, with invalid ones like the nearest valid one in their plane.

    What a pixel becomes depends on those at most `reach` rows and columns away, and on nothing
    else: two windows agree wherever both see that far.

    Parameters
    ----------
    pixels, valid : arrays (..., H, W); `valid` of bool, of the same shape
    reach : how far a value spreads, in pixels; a network's halo is enough
    rest : the value beyond that, of all planes or of each
    """
    filled = pixels.copy()
    planes, masks = filled.reshape(-1, *pixels.shape[-2:]), valid.reshape(-1, *valid.shape[-2:])
    rests = np.broadcast_to(rest, len(planes))
    source: tuple[np.ndarray, np.ndarray] | None = None
    for i, (plane, mask) in enumerate(zip(planes, masks, strict=True)):
        if mask.all():
            continue
        if source is None or not np.array_equal(mask, masks[i - 1]):
            source = _nearest(mask, reach)
        rows, columns = source
        found = rows >= 0
        taken = plane[np.where(found, rows, 0), columns]
        plane[~mask] = np.where(found, taken, plane.dtype.type(rests[i]))[~mask]
    return filled


def enlarged(array: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel ``scale`` times along the last two axes."""
    return array.repeat(scale, -2).repeat(scale, -1)


def restore(
    result: np.ndarray, source: np.ndarray, valid: np.ndarray | None, nodata: float | None
) -> tuple[np.ndarray, int]:
    """A network's result with what was invalid in its source as it was there.

    A valid number that comes out as `nodata` would no longer be valid, and becomes the next one.

    Parameters
    ----------
    result : array (..., H * scale, W * scale) of the source's dtype
    source, valid : arrays (..., H, W)

    Returns
    -------
    tuple
        the array, and how many valid numbers were moved off `nodata`
    """
    out, moved = result.copy(), 0
    if nodata is not None and not np.isnan(nodata) and holds(out.dtype, nodata):
        hit = out == out.dtype.type(nodata)
        if valid is not None:
            hit &= enlarged(valid, out.shape[-1] // valid.shape[-1])
        moved = int(hit.sum())
        out[hit] = _beside(out.dtype, nodata)
    if valid is not None:
        scale = out.shape[-1] // valid.shape[-1]
        np.copyto(out, enlarged(source, scale), where=~enlarged(valid, scale))
    return out, moved


def _nearest(valid: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the valid pixel nearest to each pixel; -1 and 0 where none is in reach."""
    height, width = valid.shape
    index = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(valid, index, -1 - reach), axis=0)
    below = np.minimum.accumulate(np.where(valid, index, height + reach)[::-1], axis=0)[::-1]
    row = np.where(index - above <= below - index, above, below)  # nearest in the same column
    far = (2 * reach + 2) ** 2
    steps = np.abs(row - index)
    squared = np.where(steps <= reach, steps * steps, far)
    best, rows, columns = squared.copy(), row.copy(), np.broadcast_to(np.arange(width), row.shape)
    columns = columns.copy()
    for dx in sorted(range(-min(reach, width - 1), min(reach, width - 1) + 1), key=abs):
        to = slice(max(-dx, 0), width - max(dx, 0))
        of = slice(max(dx, 0), width - max(-dx, 0))
        distance = squared[:, of] + dx * dx
        nearer = distance < best[:, to]
        np.copyto(best[:, to], distance, where=nearer)
        np.copyto(rows[:, to], row[:, of], where=nearer)
        np.copyto(columns[:, to], np.arange(of.start, of.stop), where=nearer)
    rows[best >= far] = -1
    return rows, columns


def _beside(dtype: np.dtype, value: float) -> np.generic:
    """The number next to another, upwards unless there is none."""
    if dtype.kind == "f":
        at = dtype.type(value)
        up = np.nextafter(at, dtype.type(np.inf))
        return up if np.isfinite(up) else np.nextafter(at, dtype.type(-np.inf))
    whole = int(value)
    return dtype.type(whole + 1 if whole < np.iinfo(dtype).max else whole - 1)
