"""Enlarge one still picture."""

import itertools
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from srpipe.errors import Cancelled
from srpipe.infer import Upscaler
from srpipe.io import image, xmp
from srpipe.io.frames import Frame
from srpipe.io.picture import Picture, layout_in
from srpipe.jobs import provenance
from srpipe.jobs.engine import Engine
from srpipe.jobs.enlarge import Enlarger, together
from srpipe.jobs.plan import Plan
from srpipe.jobs.report import Event, Report, Result
from srpipe.jobs.samples import of_frames
from srpipe.jobs.target import published
from srpipe.jobs.trusted import disagreement_of, tell, untell


def run(
    plan: Plan,
    engine: Engine,
    *,
    report: Report,
    cancelled: threading.Event,
    made: Tensor | None = None,
) -> Result:
    """Enlarge, write, read back, publish; `made` is what `ahead` made of the picture already.

    Raises
    ------
    SrpipeError
        If anything is in the way; nothing is left behind then.
    """
    picture, size = plan.picture, plan.size_after
    assert picture is not None
    assert size is not None
    upscaler = _upscaler(plan, engine)
    recomputed = upscaler.recomputed

    def on_tile(done: int, of: int) -> None:
        facts = {"done": done, "of": of, "unit": "tile"}
        report(Event(kind="progress", source=plan.source, facts=facts))

    began = time.monotonic()
    layout = layout_in(picture.frame.layout, picture.format)
    enlarge = Enlarger(
        *(upscaler, layout, size),
        cancelled=cancelled,
        project=plan.settings.consistency == "project",
        count=True,
        on_tile=on_tile,
    )
    restart = plan.settings.restart
    with published(plan.target, restart=restart, claimed=plan.claimed) as part:
        larger = picture.enlarged(enlarge(picture.frame, made))
        record = _record(plan, picture, upscaler, enlarge.clipped)
        larger, notices = _noted(larger, record)
        image.write(part, larger)
        image.verify(part, larger)
        if cancelled.is_set():
            raise Cancelled("stopped before the picture was published")
        if plan.settings.report:
            findings = of_frames(
                *(picture.frame, image.read(part).frame),
                clipped=enlarge.clipped,
                disagreement=disagreement_of(upscaler),
            )
            tell(plan.target, findings, record, plan.perception)
        else:
            untell(plan.target)
    seconds = time.monotonic() - began
    return plan.result(
        status="done",
        frames=1,
        seconds=seconds,
        fps=1 / max(seconds, 1e-9),
        device=str(upscaler.device),
        precision=upscaler.precision,
        recomputed=upscaler.recomputed - recomputed,
        clipped=enlarge.clipped,
        notices=(*plan.notices, *notices, *image.left_out(larger)),
    )


def ahead(plans: Iterable[Plan], engine: Engine, cancelled: threading.Event) -> list[Tensor]:
    """What the network makes of the first picture and those after it that can go with it.

    Small pictures of one size take less time by one call than by many. `plans` is asked for no
    more than can be made at once, and one that does not fit. Nothing, if the first is alone.

    Raises
    ------
    SrpipeError
        If something is wrong with one of them; each alone then tells which.
    """
    rest = iter(plans)
    first = next(rest)
    upscaler = _upscaler(first, engine)
    most = upscaler.at_once(*_frame(first).planes[0].shape[:2])
    alike = itertools.takewhile(lambda plan: _batch_of(plan) == _batch_of(first), rest)
    frames = [_frame(plan) for plan in (first, *itertools.islice(alike, most - 1))]
    return together(frames, upscaler, cancelled) if len(frames) > 1 else []


def _upscaler(plan: Plan, engine: Engine) -> Upscaler:
    bits = _frame(plan).layout.bits
    return engine.upscaler(plan.network, perception=plan.perception, bits=bits)


def _frame(plan: Plan) -> Frame:
    assert plan.picture is not None
    return plan.picture.frame


def _batch_of(plan: Plan) -> tuple[Any, ...]:
    """What pictures must have in common to go through the network together."""
    if plan.picture is None:
        return (plan.kind,)
    return plan.size, plan.picture.frame.layout.bits, plan.network, plan.perception


def _record(plan: Plan, picture: Picture, upscaler: Upscaler, clipped: int) -> dict[str, Any]:
    """Where the result comes from."""
    bits = picture.frame.layout.bits
    return provenance.record(
        plan,
        normalisation="none" if bits == 32 else f"0 to {2**bits - 1} are 0 to 1",
        device=str(upscaler.device),
        precision=upscaler.precision,
        counts={"clipped": clipped},
        earlier=provenance.earlier(xmp.note_in(picture.metadata.xmp)),
    )


def _noted(picture: Picture, record: Mapping[str, Any]) -> tuple[Picture, tuple[str, ...]]:
    """The picture with the record in its XMP, and what to say where there is no room for it."""
    packet = xmp.noted(picture.metadata.xmp, provenance.text(record))
    if packet is None or (picture.format == "jpeg" and len(packet) > image.JPEG_XMP_BYTES_MAX):
        return picture, ("the file's XMP has no room for a record of where it comes from",)
    return replace(picture, metadata=replace(picture.metadata, xmp=packet)), ()
