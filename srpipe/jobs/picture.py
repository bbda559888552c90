"""Enlarge one still picture."""

import threading
import time

from srpipe.errors import Cancelled, DeviceError
from srpipe.io import image
from srpipe.io.picture import layout_in
from srpipe.jobs.engine import Engine
from srpipe.jobs.enlarge import Enlarger, free_memory_bytes
from srpipe.jobs.plan import Plan
from srpipe.jobs.report import Event, Report, Result
from srpipe.jobs.target import published

_BYTES_PER_PIXEL = 40  # of the result: RGBA in float32, its codes, and a copy of each for a moment


def run(plan: Plan, engine: Engine, *, report: Report, cancelled: threading.Event) -> Result:
    """Enlarge, write, read back, publish.

    Raises
    ------
    SrpipeError
        If anything is in the way; nothing is left behind then.
    """
    picture, size = plan.picture, plan.size_after
    assert picture is not None
    assert size is not None
    _check_memory(size)
    bits = picture.frame.layout.bits
    upscaler = engine.upscaler(plan.settings, perception=plan.perception, bits=bits)
    recomputed = upscaler.recomputed

    def on_tile(done: int, of: int) -> None:
        facts = {"done": done, "of": of, "unit": "tile"}
        report(Event(kind="progress", source=plan.source, facts=facts))

    began = time.monotonic()
    layout = layout_in(picture.frame.layout, picture.format)
    enlarge = Enlarger(upscaler, layout, size, cancelled=cancelled, on_tile=on_tile)
    with published(plan.target) as part:
        larger = picture.enlarged(enlarge(picture.frame), plan.entry.scale)
        image.write(part, larger)
        image.verify(part, larger)
        if cancelled.is_set():
            raise Cancelled("stopped before the picture was published")
    seconds = time.monotonic() - began
    return plan.result(
        status="done",
        frames=1,
        seconds=seconds,
        fps=1 / max(seconds, 1e-9),
        device=str(upscaler.device),
        precision=upscaler.precision,
        recomputed=upscaler.recomputed - recomputed,
    )


def _check_memory(size: tuple[int, int]) -> None:
    """Stop before the system does: it would end the process and not say why."""
    needed, free = size[0] * size[1] * _BYTES_PER_PIXEL, free_memory_bytes()
    if needed > free:
        raise DeviceError(
            f"a picture of {size[1]} x {size[0]} px needs about {needed / 2**30:.1f} GiB of memory"
            f" and there are {free / 2**30:.1f} GiB; cut it into pieces or take a smaller scale"
        )
