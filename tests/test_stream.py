"""Three stages at once: every frame once, bounded memory, no lost error and no waiting for ever."""

import threading
import time
import weakref

import numpy as np
import pytest

from srpipe.errors import Cancelled, TruncatedError
from srpipe.io.frames import Frame
from srpipe.pixels import Layout
from srpipe.stream import run

RGB = Layout(family="rgb")


def frame(number, side=2):
    return Frame(planes=(np.full((side, side, 3), number % 256, np.uint8),), layout=RGB, pts=number)


def frames(count, *, side=2, seconds=0.0):
    for number in range(count):
        time.sleep(seconds)
        yield frame(number, side)


def same(picture):
    return picture


class Sink:
    """Remember what was written; break or be slow where told to."""

    def __init__(self, *, seconds=0.0, breaks_at=None):
        self.written, self.seconds, self.breaks_at = [], seconds, breaks_at
        self.ended = []

    def write(self, picture):
        if len(self.written) == self.breaks_at:
            raise OSError("no room left")
        time.sleep(self.seconds)
        self.written.append(picture.pts)

    def close(self):
        self.ended.append("close")

    def abort(self):
        self.ended.append("abort")


def our_threads():
    return [t for t in threading.enumerate() if t.name.startswith("srpipe-")]


def wait_for_threads():
    for thread in our_threads():
        thread.join(5)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind():
    yield
    wait_for_threads()
    assert not our_threads()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100, 1000])
@pytest.mark.parametrize("queue_bytes", [1, 24, 25, 2**28])
def test_every_frame_is_written_once_and_in_order(count, queue_bytes):
    sink = Sink()
    summary = run(frames(count), same, sink, queue_bytes=queue_bytes)
    assert sink.written == list(range(count))
    assert summary.frames == count
    assert not our_threads()


@pytest.mark.parametrize(("queue_bytes", "waiting"), [(60_000, 2), (59_999, 1), (1, 1)])
def test_a_slow_sink_does_not_fill_the_memory(queue_bytes, waiting):
    alive, most = 0, 0

    def freed():
        nonlocal alive
        alive -= 1

    def source():
        nonlocal alive, most
        for number in range(40):
            picture = frame(number, side=100)  # 30 000 bytes
            weakref.finalize(picture, freed)
            alive += 1
            most = max(most, alive)
            yield picture
            del picture

    run(source(), same, Sink(seconds=0.002), queue_bytes=queue_bytes)
    assert 2 * waiting < most <= 2 * waiting + 3  # each stage has one in its hands


@pytest.mark.parametrize("k", [0, 1, 5, 19])
@pytest.mark.parametrize("stage", ["decode", "infer", "encode"])
def test_an_error_in_any_stage_reaches_the_caller_as_it_is(stage, k):
    error = TruncatedError("the file ends early", frames=k)

    def source():
        for number in range(20):
            if stage == "decode" and number == k:
                raise error
            yield frame(number)

    def transform(picture):
        if stage == "infer" and picture.pts == k:
            raise error
        return picture

    sink = Sink(breaks_at=k if stage == "encode" else None)
    with pytest.raises(OSError if stage == "encode" else TruncatedError) as caught:
        run(source(), transform, sink, queue_bytes=48)
    assert stage == "encode" or caught.value is error
    assert sink.written == list(range(len(sink.written)))
    assert len(sink.written) <= k
    assert sink.ended == []  # the caller's business
    assert not our_threads()


@pytest.mark.parametrize("busy", ["decode", "encode"])
def test_an_error_does_not_wait_for_a_thread_that_is_inside_a_long_call(busy):
    release, sink = threading.Event(), Sink()

    def source():
        yield frame(0)
        if busy == "decode":
            release.wait(5)
        yield frame(1)

    def transform(picture):
        if picture.pts == (busy == "encode"):
            raise OSError("the device is gone")
        return picture

    sink.write = lambda picture: release.wait(5)
    began = time.monotonic()
    with pytest.raises(OSError, match="the device is gone"):
        run(source(), transform, sink)
    assert time.monotonic() - began < 1
    release.set()


@pytest.mark.parametrize("busy", ["decode", "encode"])
def test_cancelling_returns_in_well_under_a_second_while_a_thread_is_busy(busy):
    cancelled, release, sink = threading.Event(), threading.Event(), Sink()

    def source():
        yield frame(0)
        if busy == "decode":
            release.wait(5)

    if busy == "encode":
        sink.write = lambda picture: release.wait(5)
    threading.Timer(0.1, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(source(), same, sink, cancelled=cancelled)
    assert time.monotonic() - began < 1
    release.set()


def test_the_network_runs_in_the_callers_thread():
    """OpenMP's workers wait awake for a process's first thread only."""
    seen = set()

    def transform(picture):
        seen.add(threading.current_thread())
        return picture

    run(frames(3), transform, Sink())
    assert seen == {threading.current_thread()}


def test_cancelling_wakes_stages_that_wait_for_each_other():
    cancelled, closed = threading.Event(), []

    def source():
        try:
            yield from frames(10_000)
        finally:
            closed.append(True)

    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(Cancelled):
        run(source(), same, Sink(seconds=0.01), queue_bytes=1, cancelled=cancelled)
    assert not our_threads()
    assert closed == [True]


def test_an_error_in_the_report_stops_the_run():
    def report(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(frames(10_000), same, Sink(seconds=0.001), report=report)
    assert not our_threads()


def test_the_stages_work_at_the_same_time():
    def transform(picture):
        time.sleep(0.02)
        return picture

    summary = run(frames(20, seconds=0.02), transform, Sink(seconds=0.02))
    serial = sum(summary.busy.values())
    assert serial >= 3 * 20 * 0.02
    assert summary.seconds < 0.7 * serial


@pytest.mark.parametrize("slow", ["decode", "infer", "encode"])
def test_the_stage_that_limits_is_named(slow):
    seconds = {stage: 0.02 if stage == slow else 0.0 for stage in ("decode", "infer", "encode")}

    def transform(picture):
        time.sleep(seconds["infer"])
        return picture

    told = []
    summary = run(
        frames(10, seconds=seconds["decode"]),
        transform,
        Sink(seconds=seconds["encode"]),
        report=told.append,
    )
    assert summary.limited_by == slow
    assert summary.busy[slow] >= 10 * 0.02
    assert told[-1].frames == 10
    assert [p.frames for p in told] == sorted({p.frames for p in told})
    assert told[-1].fps == pytest.approx(10 / told[-1].seconds)
