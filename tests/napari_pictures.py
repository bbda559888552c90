"""Make the README's pictures of napari anew: ``python tests/napari_pictures.py [FOLDER]``.

It needs a display, which `xvfb-run -a` gives.
"""

import argparse
import time
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_sr import sample
from napari_sr.widget import SuperResolution

DOCS = Path(__file__).parents[1] / "docs"
WINDOW, PICTURE = (1480, 880), (1110, 660)
SHOWN = {"photo": ("wall", 0.6), "cells": ("cells", 0.0), "scene": ("scene: near infrared", 0.0)}
"""For each sample the layer that is enlarged, and where on the dial."""


def until(condition):
    while not condition():
        QApplication.processEvents()


def show(name, folder):
    viewer = napari.Viewer()
    form = SuperResolution(viewer)
    viewer.window.add_dock_widget(form, name="Super-resolution (srpipe)")
    viewer.window.resize(*WINDOW)
    until(lambda: bool(form._entries))
    layer, perception = SHOWN[name]
    for pixels, about, _ in getattr(sample, name)():
        if name == "scene":
            about["visible"] = about["name"] == layer
        viewer.add_image(pixels, **about)
    form.layer.value = viewer.layers[layer]
    form.model.value, form.perception.value, form.doubt.value = "eagcl-lite", perception, True
    form.region.value = "current slice"
    for button in (form.button, form.gradients, form.trust):
        button.native.click()
        until(lambda: not form._live.busy)
    form.compare.value = "every map"
    drawn = time.monotonic() + 2  # a grid takes a few draws until it lies where it should
    until(lambda: time.monotonic() > drawn)
    shot = Image.fromarray(viewer.window.screenshot(flash=False, canvas_only=False))
    shot = shot.convert("RGB").resize(PICTURE, Image.Resampling.LANCZOS).quantize(256)
    shot.save(folder / f"napari-{name}.png", optimize=True)
    viewer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DOCS)
    folder = parser.parse_args().folder
    for name in SHOWN:
        show(name, folder)


if __name__ == "__main__":
    main()
