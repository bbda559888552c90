"""Decode, infer and encode at the same time, with bounded memory between them.

The network runs in the caller's thread and the other two stages in threads of their own. OpenMP
lets the workers of a process's first thread wait for each other awake, and those of any other
sleep between two steps where there are no more cores than workers: the same network took 1.4
times as long in a thread of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    closed nor aborted. Where the source or the sink is inside a call that takes long, this function
    does not wait for its end: the thread finishes that call alone, and does nothing after it.

    Parameters
    ----------
    source : iterated in a thread of its own, as the sink is called in its
    transform : makes of each frame the one to write, in the caller's thread
    sink : gets ``write`` calls, one at a time
    queue_bytes : most bytes of frames that wait between two stages; a larger frame waits alone
    report : called in the caller's thread, after the last frame and now and then before
    cancelled : set by anyone to stop the run

    Raises
    ------
    Cancelled
        If `cancelled` was set before the last frame was written.
    """
    line = _Line(queue_bytes, report, cancelled)
    threads = [
        threading.Thread(target=line.work, args=(stage,), name=f"srpipe-{name}", daemon=True)
        for name, stage in (
            ("decode", lambda: line.decode(source)),
            ("encode", lambda: line.encode(sink)),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        line.infer(transform)
        line.finish()
    except _Stopped:
        line.look()  # which raises what stopped it
        raise
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

    def put(self, frame: Frame, look: Callable[[], None] = lambda: None) -> None:
        """Add a frame as soon as it fits; `look` is called now and then while it does not."""
        self._wait(lambda: self._fits(frame), look)
        with self._changed:
            self._frames.append(frame)
            self._bytes += frame.nbytes
            self._changed.notify_all()

    def take(self, look: Callable[[], None] = lambda: None) -> Frame | None:
        """The next frame as soon as there is one; None after the last."""
        self._wait(lambda: self._ended or bool(self._frames), look)
        with self._changed:
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._bytes -= frame.nbytes
            self._changed.notify_all()
            return frame

    def _wait(self, ready: Callable[[], bool], look: Callable[[], None]) -> None:
        """Until it is so; it stays so, since each end of a queue is one thread's alone."""
        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: self._stopped or ready(), _LOOK_S)
                if self._stopped:
                    raise _Stopped
            if came:
                return
            look()

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


class _Line:
    """The three stages and what stands between them."""

    def __init__(
        self,
        queue_bytes: int,
        report: Callable[[Progress], None] | None,
        cancelled: threading.Event | None,
    ) -> None:
        self._decoded, self._inferred = _Queue(queue_bytes), _Queue(queue_bytes)
        self._report, self._cancelled = report, cancelled
        self._busy: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._began = time.monotonic()
        self._frames = self._told = 0
        self._error: BaseException | None = None
        self._done = threading.Event()

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
        while (frame := self._decoded.take(self.look)) is not None:
            self.look()
            with self._working("infer"):
                result = transform(frame)
            del frame  # or it would stay alive while the next one is waited for
            self._inferred.put(result, self.look)
            del result
        self._inferred.end()

    def encode(self, sink: Sink) -> None:
        while (frame := self._inferred.take()) is not None:
            with self._working("encode"):
                sink.write(frame)
            del frame
            self._frames += 1
        self._done.set()

    def work(self, stage: Callable[[], None]) -> None:
        """Run a stage to its end and pass on how it ended."""
        try:
            stage()
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error if self._error is None else self._error
            self.stop()

    def finish(self) -> None:
        """Wait until all is written."""
        while not self._done.wait(_LOOK_S):
            self.look()
        self._tell()

    def look(self) -> None:
        """Raise what went wrong, or that the caller wants to stop; else tell how far it is."""
        if self._error is not None:
            raise self._error
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled(f"stopped after {self._frames} frames")
        self._tell()

    def _tell(self) -> None:
        frames = self._frames
        if self._report is not None and frames > self._told:
            self._report(self._progress(frames))
        self._told = frames

    def stop(self) -> None:
        """Let no stage begin another frame."""
        self._decoded.stop()
        self._inferred.stop()

    def summary(self) -> Summary:
        return Summary(self._frames, self._seconds(), dict(self._busy), self._limit())

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
