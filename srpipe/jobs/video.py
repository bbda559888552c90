"""Enlarge one video."""

import threading

from srpipe import stream
from srpipe.errors import Cancelled
from srpipe.io.frames import Frame, Sink
from srpipe.io.video import VideoSink, VideoSource, verify
from srpipe.jobs.engine import Engine
from srpipe.jobs.enlarge import Enlarger
from srpipe.jobs.plan import Plan
from srpipe.jobs.report import Event, Report, Result
from srpipe.jobs.target import published

QUEUE_BYTES = 256 * 2**20  # of frames between two stages: ten of 4K in 4:2:0 and 8 bit


def run(plan: Plan, engine: Engine, *, report: Report, cancelled: threading.Event) -> Result:
    """Decode, enlarge and encode at the same time; read back; publish.

    Raises
    ------
    SrpipeError
        If anything is in the way; nothing is left behind then.
    """
    source = VideoSource(plan.source, allow_truncated=plan.settings.allow_truncated)
    try:
        return _run(plan, source, engine, report, cancelled)
    finally:
        source.close()


def _run(
    plan: Plan, source: VideoSource, engine: Engine, report: Report, cancelled: threading.Event
) -> Result:
    settings, size = plan.settings, plan.size_after
    assert size is not None
    upscaler = engine.upscaler(settings, perception=plan.perception, bits=source.layout.bits)
    recomputed = upscaler.recomputed

    def on_progress(now: stream.Progress) -> None:
        facts = {"done": now.frames, "of": source.count, "unit": "frame", "seconds": now.seconds}
        facts |= {"fps": now.fps, "limited_by": now.limited_by}
        report(Event(kind="progress", source=plan.source, facts=facts))

    with published(plan.target) as part:
        sink = VideoSink(
            *(part, source),
            height=size[0],
            width=size[1],
            suffix=plan.target.suffix,
            codec=settings.codec,
            crf=settings.crf,
            pix_fmt=settings.pix_fmt,
            options=dict(settings.options),
        )
        guarded = _Guarded(sink)
        try:
            summary = stream.run(
                *(source, Enlarger(upscaler, sink.layout, size, cancelled=cancelled), guarded),
                queue_bytes=QUEUE_BYTES,
                report=on_progress,
                cancelled=cancelled,
            )
            sink.close()
        except BaseException:
            guarded.abort()
            raise
        checked = verify(part, source, sink)
        if cancelled.is_set():
            raise Cancelled("stopped before the video was published")
    return plan.result(
        status="truncated" if source.truncated else "done",
        frames=summary.frames,
        seconds=summary.seconds,
        fps=summary.frames / max(summary.seconds, 1e-9),
        limited_by=summary.limited_by,
        device=str(upscaler.device),
        precision=upscaler.precision,
        recomputed=upscaler.recomputed - recomputed,
        notices=tuple(dict.fromkeys([*plan.notices, *source.notices, *sink.notices])),
        checked=checked,
    )


class _Guarded:
    """A sink that is not aborted amid a write.

    `stream.run` does not wait for a slow encoder when it is cancelled, and to close a file under
    an encoder that is at work ends the process. Such a sink is left to the thread that uses it.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._at_work = threading.Lock()

    def write(self, frame: Frame) -> None:
        with self._at_work:
            self._sink.write(frame)

    def close(self) -> None:
        self._sink.close()

    def abort(self) -> None:
        if self._at_work.acquire(blocking=False):
            self._sink.abort()
