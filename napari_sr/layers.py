"""From napari's layers to numbers, and back: what lies where, and how it looks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sr import compat
from napari_sr.region import Box, around, at_slice, whole
from napari_sr.stack import Stack
from napari_sr.world import Place
from srpipe.errors import ConfigError

if TYPE_CHECKING:
    from srpipe.pixels import Range

RANGES = ("contrast limits", "number type")


def stack_of(layer: Any) -> Stack:
    """What an image layer holds."""
    return Stack.of(layer.data, rgb=layer.rgb, multiscale=layer.multiscale)


def place_of(layer: Any) -> Place:
    """Where it lies, but for its own affine, which stays as it is."""
    return Place(
        np.array(layer.scale), np.array(layer.translate), np.array(layer.rotate), layer.shear
    )


def box_of(layer: Any, region: str, viewer: Any, shapes: Any = None) -> Box:
    """The part of a layer that a user means.

    Parameters
    ----------
    region : one of `srpipe`'s regions; all but the whole are of the current slice
    shapes : the layer with the rectangle

    Raises
    ------
    ConfigError
        If nothing of the layer is there.
    """
    shape = stack_of(layer).shape
    if region == "whole layer":
        return whole(shape)
    shown, last = tuple(viewer.dims.displayed), viewer.dims.ndim - 1
    if shown != (last - 1, last) and (len(shown) == 2 or region == "current view"):
        what = "is seen in 3D" if len(shown) == 3 else "is a cut through the stack"
        raise ConfigError(f"the {region} {what}; show rows and columns, or take the whole layer")
    current = at_slice(shape, compat.to_data(layer, viewer.dims.point, viewer))
    if region == "current slice":
        return current
    if region == "rectangle":
        drawn = _drawn(shapes, viewer)
        return around(current, [compat.to_data(layer, corner, viewer) for corner in drawn])
    corners = compat.view(viewer)
    point = np.array(viewer.dims.point, np.float64)
    seen = []
    for row in corners[:, 0]:
        for column in corners[:, 1]:
            point[-2:] = row, column
            seen.append(compat.to_data(layer, point, viewer))
    return around(current, seen)


def range_of(layer: Any, meant: str) -> "Range":
    """What is 0 and 1 to the network: black and white as shown, or all that the type can hold.

    Raises
    ------
    ConfigError
        If the type can hold more numbers than the network can tell apart.
    """
    from srpipe.pixels import Range, declared_range

    if meant == "number type":
        dtype = stack_of(layer).dtype
        found = declared_range(dtype)
        if found.coarse:
            raise ConfigError(
                f"of all that {dtype} holds the network sees less than the layer's own numbers;"
                " choose contrast limits"
            )
        return found
    low, high = layer.contrast_limits
    return Range(float(low), float(high))


def usual_range(layer: Any) -> str:
    """What most layers mean: 8 bits are a picture, other numbers are measured."""
    return "number type" if np.dtype(layer.dtype) == np.uint8 else "contrast limits"


def lying(layer: Any, place: Place) -> dict[str, Any]:
    """Arguments that put a new layer of the same axes to a place in the layer's world."""
    return {
        "scale": place.scale,
        "translate": place.translate,
        "rotate": place.rotate,
        "shear": place.shear,
        "affine": np.array(layer.affine.affine_matrix),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def looking(layer: Any) -> dict[str, Any]:
    """Arguments that make a new layer of the same numbers look the same."""
    look = {
        "blending": layer.blending,
        "opacity": layer.opacity,
        "gamma": layer.gamma,
        "contrast_limits": layer.contrast_limits,
        "interpolation2d": layer.interpolation2d,
    }
    return look if layer.rgb else look | {"colormap": layer.colormap}


def record_in(metadata: Mapping[str, Any]) -> Any:
    """Where a layer's numbers come from, if srpipe made them here or in the layer's file."""
    from srpipe.jobs import provenance

    here = metadata.get("srpipe", {}).get("record")
    return here or provenance.earlier(getattr(metadata.get("raster"), "record", None))


def plane_of(layer: Any, box: Box, viewer: Any) -> tuple[int, ...]:
    """The plane of a result on which the viewer stands, counted from the box's start."""
    at = compat.to_data(layer, viewer.dims.point, viewer)[: len(box.shape) - 2]
    return tuple(min(max(round(p), 0), n - 1) for p, n in zip(at, box.shape[:-2], strict=True))


def _drawn(shapes: Any, viewer: Any) -> Sequence[Sequence[float]]:
    """Corners of the selected shape, or of the last one, in the world."""
    if shapes is None or not len(shapes.data):
        raise ConfigError("no rectangle is drawn; add a Shapes layer and draw one")
    chosen = max(shapes.selected_data, default=len(shapes.data) - 1)
    return [compat.to_world(shapes, corner, viewer) for corner in shapes.data[chosen]]
