"""Rasters as layers and layers as rasters: the same pixels, at the same place, in the same units.

A raster measures from the outer corner of its first pixel, napari from its centre. On a map north
is up and its numbers grow that way; napari's grow downwards, so there a row is minus the northing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_sr.keep import initials, letters
from napari_sr.stack import Stack
from napari_sr.world import Place
from srpipe.errors import ConfigError
from srpipe.io.raster import AXES, Affine, Band, Raster, Step, World

_UNIT = "pixel"


def layer_of(raster: Raster, axes: str) -> dict[str, Any]:
    """Arguments of a layer that has these axes of a raster, Y and X last, where it lies."""
    world = raster.world
    matrix = _centred(world)
    steps = {"T": world.time or Step(), "Z": world.depth or Step()}
    units = _units(world)
    about: dict[str, Any] = {
        "axis_labels": tuple(axes.lower()),
        "units": tuple(units[axis] if _has(units[axis]) else _UNIT for axis in axes),
        "metadata": {"raster": raster},
    }
    size = [steps[axis].size for axis in axes[:-2]]
    start = [steps[axis].start for axis in axes[:-2]]
    if world.turned or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        whole = np.eye(len(axes) + 1)
        whole[-3:, -3:] = matrix
        np.fill_diagonal(whole[:-3, :-3], size)
        whole[:-3, -1] = start
        return about | {"affine": whole}
    scale, translate = (*size, matrix[0, 0], matrix[1, 1]), (*start, matrix[0, 2], matrix[1, 2])
    return about | {"scale": scale, "translate": translate}


def place_known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata for a map of a layer with these: where it lies, as far as a layer holds it."""
    known = metadata.get("raster")
    if known is None or known.world.points or known.world.rpc:
        return {}
    return {"raster": replace(known, bands=(), nodata=None, masked=False, record=None)}


def unit_notices(world: World) -> list[str]:
    """What a user should know of units that napari does not have; one line for each."""
    lacking = dict.fromkeys(unit for unit in _units(world).values() if unit and not _has(unit))
    return [
        f"napari has no unit {unit!r}; sizes are as the file says, and are called pixels"
        for unit in lacking
    ]


def raster_of(stack: Stack, meta: Mapping[str, Any]) -> Raster:
    """What a layer is as a raster; of one that was read from a raster, what that one knew.

    Raises
    ------
    ConfigError
        If its axes are not those of a raster, it is turned as no file can say, or it came from a
        raster with what no layer can hold.
    """
    known = meta.get("metadata", {}).get("raster")
    if known is not None:
        _refuse(known)
    count = len(stack.shape)
    labels = meta.get("axis_labels") or ()
    leading = _leading(tuple(labels)[: count - 2], count - 2, rgb=stack.rgb)
    sizes = dict(zip((*leading, "Y", "X"), stack.shape, strict=True))
    sizes |= {"C": len(stack.colours)} if stack.rgb else {}
    t, c, z, y, x = (sizes.get(axis, 1) for axis in AXES)
    matrix = _matrix(meta, count)
    mapped = known is not None and known.world.mapped
    units = [str(unit) for unit in meta.get("units") or (_UNIT,) * count]
    before = _units(known.world) if known else {}
    names = {
        axis: _unit(unit, before.get(axis))
        for axis, unit in zip((*leading, "Y", "X"), units, strict=True)
    }
    steps = {
        axis: Step(size=float(matrix[i, i]), start=float(matrix[i, -1]), unit=names[axis])
        for i, axis in enumerate(leading)
    }
    world = World(
        affine=_cornered(matrix[-3:-1, -3:], mapped=mapped),
        units=(names["Y"], names["X"]),
        depth=steps.get("Z"),
        time=steps.get("T"),
        crs=known.world.crs if mapped else None,
    )
    if stack.rgb:
        bands = tuple(Band(colour=colour) for colour in stack.colours)
    else:
        bands = known.bands if known and len(known.bands) == c else (Band(),) * c
    return Raster(
        shape=(t, c, z, y, x),
        dtype=stack.dtype,
        format=_format(world, t * z, known.format if known else "ometiff"),
        axes="".join(axis for axis in AXES if axis in sizes),
        bands=tuple(replace(band, own={}) for band in bands),
        world=world,
        nodata=known.nodata if known else None,
        own={"samples": c} if stack.rgb else {},
    )


def _leading(labels: Sequence[str], count: int, *, rgb: bool) -> str:
    """The axes before rows and columns, where a file can have them in their order."""
    allowed = "TZ" if rgb else "TCZ"
    if count > len(allowed):
        raise ConfigError(
            f"the layer has {count} axes before rows and columns, and a file has at most"
            f" {len(allowed)} ({', '.join(allowed)}); split the stack first"
        )
    named, found = initials(labels), letters(count, labels, rgb=rgb)
    own = set(named) & set(allowed)
    if named != found and len(named) == len(own) == count:
        raise ConfigError(
            f"the axes before rows and columns are {', '.join(labels)}, and a file has them in the"
            f" order {', '.join(axis for axis in AXES if axis in named)}; roll the layer's axes, or"
            " name them otherwise"
        )
    return found


def _format(world: World, planes: int, before: str) -> str:
    """The format of a file whose name fits several; only a GeoTIFF says how rows are turned."""
    assert world.affine
    upright = not world.turned and min(world.affine[0], world.affine[4]) > 0
    if world.mapped or upright:
        return before
    if planes == 1 and not any(world.units):
        return "geotiff"
    if world.turned:
        raise ConfigError(
            "the layer is turned, which only a GeoTIFF can say, and that has no stacks and no"
            " units; undo its rotation and shear"
        )
    return before


def _refuse(known: Raster) -> None:
    """See that a layer held all that places a raster and tells its numbers from gaps."""
    world = known.world
    lost = {
        "a validity mask": known.masked,
        "ground control points": world.points,
        "rational polynomial coefficients (RPC)": world.rpc,
    }
    for what, there in lost.items():
        if there:
            raise lost_of(what)


def lost_of(what: str) -> ConfigError:
    """That a layer does not hold something that its file has."""
    return ConfigError(
        f"the layer came from a file with {what}, which a layer cannot hold; enlarge that file"
        " itself, by the command srpipe upscale"
    )


def _centred(world: World) -> np.ndarray:
    """From row and column of a pixel's centre to napari's world, (3, 3)."""
    a, b, c, d, e, f = world.affine or (1.0, 0.0, -0.5, 0.0, 1.0, -0.5)
    up = -1.0 if world.mapped else 1.0
    return np.array(
        [
            [up * e, up * d, up * (f + (d + e) / 2)],
            [b, a, c + (a + b) / 2],
            [0.0, 0.0, 1.0],
        ]
    )


def _cornered(matrix: np.ndarray, *, mapped: bool) -> Affine:
    """The inverse of `_centred`, of its first two rows."""
    (e, d, f), (b, a, c) = matrix.tolist()
    if mapped:
        e, d, f = -e, -d, -f
    return a, b, c - (a + b) / 2, d, e, f - (d + e) / 2


def _matrix(meta: Mapping[str, Any], count: int) -> np.ndarray:
    """From indices to the world, (n + 1, n + 1)."""
    place = Place(
        np.asarray(meta.get("scale", np.ones(count))),
        np.asarray(meta.get("translate", np.zeros(count))),
        np.asarray(meta.get("rotate", np.eye(count))),
        np.asarray(meta.get("shear", np.eye(count))),
    )
    whole = np.eye(count + 1)
    whole[:-1, :-1], whole[:-1, -1] = place.linear, place.translate
    affine = meta.get("affine")
    if affine is not None:
        whole = np.asarray(getattr(affine, "affine_matrix", affine)) @ whole
    lead = count - 2
    mixed = whole[:lead, lead:count].any() or whole[lead:count, :lead].any()
    if mixed or (whole[:lead, :lead] - np.diag(np.diag(whole[:lead, :lead]))).any():
        raise ConfigError("the layer's planes are turned out of rows and columns; undo that first")
    return whole


def _units(world: World) -> dict[str, str | None]:
    """By axis, as the file spells them."""
    time, depth = world.time or Step(), world.depth or Step()
    return dict(zip("TZYX", (time.unit, depth.unit, *world.units), strict=True))


def _has(unit: str | None) -> bool:
    """Whether it is a unit for napari, which asks Pint."""
    import pint

    if unit is None or not unit.isidentifier():
        return False
    try:
        pint.get_application_registry().parse_units(unit)
    except (pint.UndefinedUnitError, ValueError):
        return False
    return True


def _unit(name: str, before: str | None) -> str | None:
    """What a file calls a layer's unit: as the file before it did, where napari has none."""
    if name != _UNIT:
        return name
    return before if before and not _has(before) else None
