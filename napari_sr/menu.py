"""What the menu Layers > Visualize does with the selected layers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

COLORMAP = "magma"
"""Of gradient maps; even steps of the numbers look even in it."""


def gradient(viewer: "napari.viewer.Viewer") -> None:
    """Add the gradient map of the active image, made slice by slice as one looks."""
    import numpy as np

    from napari_sr.layers import lying, place_of, range_of, stack_of, usual_range
    from napari_sr.maps import gradient_of, lazily, limit
    from napari_sr.placing import place_known

    layer = _images(viewer, 1)[0]
    stack, within = stack_of(layer), range_of(layer, usual_range(layer))
    make = gradient_of(stack, within)
    plane = tuple(n // 2 for n in stack.shape[:-2])
    viewer.add_image(
        lazily(make, stack.shape, np.dtype(np.float32)),
        name=f"{layer.name}: gradient",
        colormap=COLORMAP,
        contrast_limits=(0, limit(make, stack.shape, plane)),
        metadata=place_known(layer.metadata),
        **lying(layer, place_of(layer)),
    )


def compare(viewer: "napari.viewer.Viewer") -> None:
    """Show the two selected layers side by side; all layers again if some are compared already."""
    from napari_sr.compare import WAYS, Comparison

    comparison = Comparison(viewer)
    if comparison.on:
        comparison.show(WAYS[0], ())
        return
    comparison.show("side by side", [layer.name for layer in _images(viewer, 2)])


def _images(viewer: Any, count: int) -> list[Any]:
    """The selected image layers, in their order.

    Raises
    ------
    ConfigError
        If there are not so many.
    """
    from srpipe.errors import ConfigError

    chosen = [
        layer
        for layer in viewer.layers
        if layer in viewer.layers.selection and type(layer).__name__ == "Image"
    ]
    if len(chosen) != count:
        raise ConfigError(
            f"{len(chosen)} image layers are selected; select {count} in the list of layers"
        )
    return chosen
