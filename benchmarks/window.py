"""How late napari's window is while a network runs: ``python benchmarks/window.py [--model NAME]``.

A timer should fire every 10 ms; how late each time is says how long the window did not listen. It
needs a display, which `xvfb-run -a` gives.
"""

import argparse
import json
import time

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_sr.widget import SuperResolution

EVERY_S = 0.01


def until(condition):
    while not condition():
        QApplication.processEvents()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="eagcl-lite")
    parser.add_argument("--side", type=int, default=768, help="of the image, in pixels")
    args = parser.parse_args()
    viewer = napari.Viewer()
    form = SuperResolution(viewer)
    viewer.window.add_dock_widget(form, name="Super-resolution")
    until(lambda: bool(form._entries))
    pixels = np.random.default_rng(0).integers(0, 256, (args.side, args.side), np.uint8)
    form.layer.value = viewer.add_image(pixels)
    form.model.value = args.model

    late, last = [], None

    def tick():
        nonlocal last
        now = time.perf_counter()
        if last is not None:
            late.append(now - last - EVERY_S)
        last = now

    timer = QTimer()
    timer.setInterval(round(EVERY_S * 1000))
    timer.timeout.connect(tick)
    timer.start()
    began = time.perf_counter()
    form.button.native.click()
    until(lambda: not form._live.busy)
    seconds = time.perf_counter() - began
    timer.stop()
    p50, p95, most = 1000 * np.percentile(late, [50, 95, 100])
    facts = {"seconds": seconds, "p50_ms": p50, "p95_ms": p95, "max_ms": most}
    print(json.dumps({name: round(value, 1) for name, value in facts.items()}))
    viewer.close()


if __name__ == "__main__":
    main()
