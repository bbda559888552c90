"""Two layers next to each other under one camera, or one fading over the other."""

from collections.abc import Iterable
from typing import Any

from napari_sr import compat

WAYS = ("all layers", "side by side", "every map", "blend")


class Comparison:
    """Shows some layers of a viewer in a way, and then all of them as they were.

    Parameters
    ----------
    before : which layers were visible, by name; changed as that does
    """

    def __init__(self, viewer: Any, before: dict[str, bool] | None = None) -> None:
        self._viewer = viewer
        self._before = {} if before is None else before

    def show(self, way: str, names: Iterable[str]) -> None:
        """Show only these layers, side by side or one over the other; or all as they were."""
        self._restore()
        if way == WAYS[0]:
            return
        wanted = set(names)
        self._before.update({layer.name: layer.visible for layer in self._viewer.layers})
        for layer in self._viewer.layers:
            layer.visible = layer.name in wanted
        if way != "blend":
            grid = compat.grid(self._viewer)
            shape = (1, -1) if way == "side by side" else (-1, -1)
            grid.stride, grid.shape, grid.enabled = 1, shape, True
            self._viewer.reset_view()

    def _restore(self) -> None:
        compat.grid(self._viewer).enabled = False
        for layer in self._viewer.layers:
            layer.visible = self._before.get(layer.name, layer.visible)
        self._before.clear()
