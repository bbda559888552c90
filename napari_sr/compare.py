"""Two layers next to each other under one camera, or one fading over the other."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from napari_sr import compat

WAYS = ("all layers", "side by side", "every map", "blend")


@dataclass
class _Before:
    """How a viewer was; layers by their own ids, as names change.

    Parameters
    ----------
    grid, camera : their attributes
    visible : of all layers
    opacity : of those that were faded
    """

    grid: dict[str, Any]
    camera: dict[str, Any]
    visible: dict[Any, bool]
    opacity: dict[Any, float] = field(default_factory=dict)


_BEFORE: "WeakKeyDictionary[Any, _Before]" = WeakKeyDictionary()
"""Of viewers that compare now, whoever began it."""


class Comparison:
    """Shows some layers of a viewer in a way, and then all of them as they were."""

    def __init__(self, viewer: Any) -> None:
        self._viewer, self._key = viewer, compat.unwrapped(viewer)

    @property
    def on(self) -> bool:
        """Whether layers are compared now."""
        return self._key in _BEFORE

    def show(self, way: str, names: Iterable[str]) -> None:
        """Show only these layers, side by side or one over the other; or all as they were."""
        self._restore()
        if way == WAYS[0]:
            return
        wanted, layers = set(names), self._viewer.layers
        grid, camera = compat.grid(self._viewer), compat.camera(self._viewer)
        _BEFORE[self._key] = _Before(
            grid={name: getattr(grid, name) for name in ("stride", "shape", "enabled")},
            camera={name: getattr(camera, name) for name in ("center", "zoom")},
            visible={layer.unique_id: layer.visible for layer in layers},
        )
        for layer in layers:
            layer.visible = layer.name in wanted
        if way == "blend":
            grid.enabled = False
        else:
            shape = (1, -1) if way == "side by side" else (-1, -1)
            grid.stride, grid.shape, grid.enabled = 1, shape, True
            self._viewer.reset_view()

    def fade(self, layer: Any, opacity: float) -> None:
        """Show a layer with this opacity for as long as layers are compared."""
        if self.on:
            _BEFORE[self._key].opacity.setdefault(layer.unique_id, layer.opacity)
            layer.opacity = opacity

    def _restore(self) -> None:
        before = _BEFORE.pop(self._key, None)
        if before is None:
            return
        grid, camera = compat.grid(self._viewer), compat.camera(self._viewer)
        for thing, was in ((grid, before.grid), (camera, before.camera)):
            for name, value in was.items():
                setattr(thing, name, value)
        for layer in self._viewer.layers:
            layer.visible = before.visible.get(layer.unique_id, layer.visible)
            layer.opacity = before.opacity.get(layer.unique_id, layer.opacity)
