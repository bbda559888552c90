"""Decode, infer and encode at the same time, in three threads, with bounded memory between them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from srpipe.errors import Cancelled
from srpipe.io.frames import Frame, Sink

Stage = Literal["decode", "infer", "encode"]
STAGES: tuple[Stage, ...] = ("decode", "infer", "encode")

_FAREWELL_S = 0.3  # that the caller waits for threads which are inside a long call
_LOOK_S = 0.05  # between two looks at the caller's wish to cancel


@dataclass(frozen=True)
class Progress:
    """How far a run has come; `limited_by` is the stage that has worked longest so far."""

    frames: int
    seconds: float
    fps: float
    limited_by: Stage


@dataclass(frozen=True)
class Summary:
    """What a run did; `busy` is the time a stage worked, in seconds, waiting not counted."""

    frames: int
    seconds: float
    busy: dict[Stage, float]
    limited_by: Stage


def run(
    source: Iterable[Frame],
    transform: Callable[[Frame], Frame],
    sink: Sink,
    *,
    queue_bytes: int = 256 * 2**20,
    report: Callable[[Progress], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Summary:
    """Write every frame of a source, transformed, to a sink: each once and in order.

    An error in a stage stops the others at once and is raised here as it is. The sink is neither
    closed nor aborted. Where a stage is inside a call that takes long, this function does not wait
    for its end: the thread finishes that call alone, and does nothing after it.

    Parameters
    ----------
    source : iterated in a thread of its own, as the other two are called in theirs
    transform : makes of each frame the one to write
    sink : gets ``write`` calls, one at a time
    queue_bytes : most bytes of frames that wait between two stages; a larger frame waits alone
    report : called in the caller's thread, after the last frame and now and then before
    cancelled : set by anyone to stop the run

    Raises
    ------
    Cancelled
        If `cancelled` was set before the last frame was written.
    """
    line = _Line(queue_bytes)
    threads = [
        threading.Thread(target=line.work, args=(stage,), name=f"srpipe-{name}", daemon=True)
        for name, stage in (
            ("decode", lambda: line.decode(source)),
            ("infer", lambda: line.infer(transform)),
            ("encode", lambda: line.encode(sink)),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        line.watch(report, cancelled)
    finally:
        line.stop()
        deadline = time.monotonic() + _FAREWELL_S
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
    return line.summary()


class _Stopped(BaseException):
    """The run is over for a reason known elsewhere; no `except Exception` may swallow it."""


class _Queue:
    """Frames in order, as many as fit in a number of bytes, or one that does not."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._ended = self._stopped = False
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._fits(frame))
            self._check()
            self._frames.append(frame)
            self._bytes += frame.nbytes
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._ended or self._frames)
                self._check()
                if not self._frames:
                    return
                frame = self._frames.popleft()
                self._bytes -= frame.nbytes
                self._changed.notify_all()
            yield frame
            del frame  # or it would stay alive while the next one is waited for

    def end(self) -> None:
        """No frame will follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Whoever waits here, or comes here, stops."""
        with self._changed:
            self._stopped = True
            self._frames.clear()
            self._changed.notify_all()

    def _fits(self, frame: Frame) -> bool:
        return not self._frames or self._bytes + frame.nbytes <= self._most

    def _check(self) -> None:
        if self._stopped:
            raise _Stopped


class _Line:
    """The three stages and what stands between them."""

    def __init__(self, queue_bytes: int) -> None:
        self._decoded, self._inferred = _Queue(queue_bytes), _Queue(queue_bytes)
        self._busy: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._began = time.monotonic()
        self._frames = 0
        self._error: BaseException | None = None
        self._over = self._done = False
        self._news = threading.Condition()

    def decode(self, source: Iterable[Frame]) -> None:
        frames = iter(source)
        try:
            while (frame := self._next(frames)) is not None:
                self._decoded.put(frame)
                del frame
        finally:
            if hasattr(frames, "close"):
                frames.close()  # a generator lets go of its file here and not at some later time
        self._decoded.end()

    def infer(self, transform: Callable[[Frame], Frame]) -> None:
        for frame in self._decoded:
            with self._working("infer"):
                result = transform(frame)
            del frame
            self._inferred.put(result)
            del result
        self._inferred.end()

    def encode(self, sink: Sink) -> None:
        for frame in self._inferred:
            with self._working("encode"):
                sink.write(frame)
            del frame
            with self._news:
                self._frames += 1
                self._news.notify_all()
        with self._news:
            self._done = True
            self._news.notify_all()

    def work(self, stage: Callable[[], None]) -> None:
        """Run a stage to its end and pass on how it ended."""
        try:
            stage()
        except _Stopped:
            pass
        except BaseException as error:
            with self._news:
                self._error = error if self._error is None else self._error
                self._news.notify_all()

    def watch(
        self, report: Callable[[Progress], None] | None, cancelled: threading.Event | None
    ) -> None:
        """Return when all is written; raise what went wrong, or that the caller wants to stop."""
        told = 0
        while True:
            with self._news:
                self._news.wait_for(partial(self._is_news, told), _LOOK_S)
                error, done, frames = self._error, self._done, self._frames
            if error is not None:
                raise error
            if cancelled is not None and cancelled.is_set() and not done:
                raise Cancelled(f"stopped after {frames} frames")
            if report is not None and frames > told:
                report(self._progress(frames))
            told = frames
            if done:
                return

    def stop(self) -> None:
        """Let no stage begin another frame."""
        self._decoded.stop()
        self._inferred.stop()

    def summary(self) -> Summary:
        return Summary(self._frames, self._seconds(), dict(self._busy), self._limit())

    def _is_news(self, told: int) -> bool:
        return self._done or self._error is not None or self._frames > told

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        with self._working("decode"):
            return next(frames, None)

    @contextmanager
    def _working(self, stage: Stage) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._busy[stage] += time.perf_counter() - began

    def _progress(self, frames: int) -> Progress:
        seconds = self._seconds()
        return Progress(frames, seconds, frames / max(seconds, 1e-9), self._limit())

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _limit(self) -> Stage:
        return max(STAGES, key=self._busy.__getitem__)
