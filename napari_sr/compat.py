"""What napari 0.7 to 0.9 do in different ways, and what does not bear to be in one process."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def view(viewer: Any) -> np.ndarray:
    """Opposite corners, (2, 2), of the rows and columns of the world that are on screen."""
    half = np.asarray(_size(viewer)) / np.asarray(_shape(viewer)) / camera(viewer).zoom / 2
    centre = np.asarray(camera(viewer).center)[-2:]
    return np.stack([centre - half, centre + half])


def to_data(layer: Any, point: Sequence[float] | np.ndarray, viewer: Any) -> list[float]:
    """Where in a layer's array a point of the viewer's world lies."""
    given = np.asarray(point, np.float64)
    return list(layer.world_to_data(given * _units(layer, viewer)[-len(given) :]))


def to_world(layer: Any, point: Sequence[float], viewer: Any) -> list[float]:
    """Where in the viewer's world a point of a layer's array lies."""
    units = _units(layer, viewer)
    return list(np.asarray(layer.data_to_world(point)) / units[-layer.ndim :])


def camera(viewer: Any) -> Any:
    """From where the layers are seen."""
    scene = getattr(viewer, "scene", None)  # 0.9
    return viewer.camera if scene is None else scene.camera


def grid(viewer: Any) -> Any:
    """How layers are laid side by side."""
    canvas = getattr(viewer, "canvas", None)  # 0.9
    return viewer.grid if canvas is None else canvas.grid


def unwrapped(thing: Any) -> Any:
    """What napari hands to plugins in a wrapper, a new one each time."""
    return getattr(thing, "__wrapped__", thing)


def preference(key: str, default: Any) -> Any:
    """What the user set for all runs, where napari knows settings of plugins (0.9)."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return default
    try:
        return getattr(get_plugin_settings("srpipe").run, key)
    except (AttributeError, KeyError):  # the plugin is not installed, but imported
        return default


def spare_triton() -> None:
    """Have an import of triton fail where it would bring the process down.

    Triton carries an LLVM of its own, and its import ends in a segmentation fault once Mesa's
    drivers have brought in theirs; the other way round both live. PyTorch's compiler imports it,
    torchvision PyTorch's compiler, and spandrel torchvision. All of them do without it.
    """
    maps = Path("/proc/self/maps")
    if "triton" not in sys.modules and maps.exists() and "/libLLVM" in maps.read_text():
        sys.modules["triton"] = None  # type: ignore[assignment]  # how Python bars an import


def _units(layer: Any, viewer: Any) -> np.ndarray:
    """How many of a layer's units those of the viewer's axes are; 1 for axes that it lacks.

    The world is in the smallest unit among the layers (0.9), or in none, which is each layer's own.
    """
    factors = np.ones(max(viewer.dims.ndim, layer.ndim))
    ours = getattr(viewer.dims, "units", None)
    if ours is not None and len(ours) >= layer.ndim:
        pairs = zip(ours[-layer.ndim :], layer.units, strict=True)
        bases = [[(1 * unit).to_base_units().magnitude for unit in pair] for pair in pairs]
        factors[-layer.ndim :] = [world / own for world, own in bases]
    return factors


def _size(viewer: Any) -> tuple[int, int]:
    """Height and width of the canvas."""
    canvas = getattr(viewer, "canvas", None)
    if canvas is not None:
        return canvas.size
    with warnings.catch_warnings(action="ignore"):  # before 0.9 nothing public tells it
        return viewer._canvas_size


def _shape(viewer: Any) -> tuple[int, int]:
    """Rows and columns of the grid in which layers lie."""
    return grid(viewer).actual_shape(viewer.layers) if grid(viewer).enabled else (1, 1)
