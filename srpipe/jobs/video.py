"""Enlarge one video, in units of whole cells; see `srpipe.io.video_pieces`."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srpipe import stream
from srpipe.device import memory_told
from srpipe.errors import Cancelled, MediaError, SrpipeError, TargetError
from srpipe.io.frames import Frame
from srpipe.io.video import SequenceSink, VideoSink, VideoSource, verify
from srpipe.io.video_index import Index, Key, Reader, Unlisted, by_frames, by_packets, lead
from srpipe.io.video_pieces import CELL, PieceSink, Target
from srpipe.io.video_source import DAMAGED, MOVED, notices_of
from srpipe.jobs import provenance
from srpipe.jobs.engine import Engine
from srpipe.jobs.enlarge import Enlarger
from srpipe.jobs.job import (
    OF_ONE_UNIT,
    Advance,
    Done,
    Outcome,
    Receipt,
    Unit,
    part_of_slot,
    raise_failures,
    sealed,
    slot,
)
from srpipe.jobs.journal import Journal, fingerprint
from srpipe.jobs.plan import Plan, sink_for
from srpipe.jobs.repeats import Repeats
from srpipe.jobs.report import Event, Report, Result
from srpipe.jobs.samples import of_video
from srpipe.jobs.shots import Shots
from srpipe.jobs.spread import performed
from srpipe.jobs.target import WHOLE, workplace
from srpipe.jobs.trusted import disagreement_of, tell, untell
from srpipe.settings import RunSettings, rate_of

QUEUE_BYTES = 256 * 2**20  # of frames between two stages: ten of 4K in 4:2:0 and 8 bit

_FRAMES = "frames.json"  # the index, in a job's folder, where it took decoding to know it


def run(plan: Plan, engine: Engine, *, report: Report, cancelled: threading.Event) -> Result:
    """Do what is not done yet of a video, join it, read it back, publish it.

    Raises
    ------
    SrpipeError
        If anything is in the way. What is finished is kept, and nothing else is left behind.
    """
    source = opened(plan.source, plan.settings)
    try:
        with (
            workplace(plan.target, restart=plan.settings.restart, claimed=plan.claimed) as folder,
            closing(Journal(folder, fingerprint(plan))) as journal,
        ):
            return _Run(plan, source, journal, report, cancelled).result(engine)
    finally:
        source.close()


def opened(path: Path, settings: RunSettings) -> VideoSource:
    """The source as the settings want it read."""
    return VideoSource(
        path,
        allow_truncated=settings.allow_truncated,
        deinterlace=settings.deinterlace == "auto",
        picture_rate=rate_of(settings.rate),
    )


def cut(index: Index, length: int, kept: Sequence[range], before: int) -> list[Unit]:
    """Units of at most so many frames, in whole cells, for all frames that are not kept.

    Parameters
    ----------
    before : frames to decode before the first one of a unit, for its sake
    """
    length = -(-length // CELL) * CELL
    units, first = [], 0
    for done in [*sorted(kept, key=lambda each: each.start), range(len(index.times), 0)]:
        while first < done.start:
            size = min(length, done.start - first)
            units.append(unit_of(index, first, size, before))
            first += size
        first = done.stop
    return units


def unit_of(index: Index, first: int, size: int, before: int) -> Unit:
    """The unit of `size` frames from number `first` on."""
    key = index.key_for(max(first - before, 0))
    return Unit(
        name=f"{first:08}-{first + size:08}",
        size=size,
        facts={"first": first, "times": list(index.times[first : first + size])},
        hints={"key": key, "last": first + size == len(index.times)},
    )


class _Run:
    """One video from its plan to its result."""

    def __init__(
        self,
        plan: Plan,
        source: VideoSource,
        journal: Journal,
        report: Report,
        cancelled: threading.Event,
    ) -> None:
        self._plan, self._source = plan, source
        self._journal, self._folder = journal, journal.folder
        self._report, self._cancelled = report, cancelled
        self._live: dict[str, int] = {}  # frames of units that are being done
        self._done: dict[str, Receipt] = {}
        self._of = self._frames = 0  # frames there are, and are done
        self._before = 0  # of those that are done, by an earlier run
        self._began = time.monotonic()

    def result(self, engine: Engine) -> Result:
        """What became of the plan; the result lies in the folder then."""
        sink = self._sink()
        try:
            index, outcome = self._computed(engine, sink)
            sink.abort()  # it was there to refuse; now it is known what to say of the result
            record = self._record()
            sink = self._sink(provenance.text(record))
            sink.join([slot(self._folder, receipt.unit) for receipt in self._in_order()])
            sink.close()
        except BaseException:
            sink.abort()
            raise
        shift = sink.times[0] - index.times[0] if sink.times else 0
        if [time + shift for time in index.times] != list(sink.times):
            raise TargetError(f"{sink.part}: its frames are not the source's; report this as a bug")
        checked = verify(sink.part, sink)
        if self._cancelled.is_set():
            raise self._stopped(Cancelled("stopped before the video was published"))
        if self._plan.settings.report:
            self._tell(index, engine, sink, record)
        else:
            untell(self._plan.target)
        return self._summed(index, outcome, sink, checked)

    def _sink(self, comment: str | None = None) -> VideoSink | SequenceSink:
        """Where the pieces are joined."""
        plan = self._plan
        assert plan.size_after is not None
        return sink_for(
            self._folder / WHOLE,
            self._source,
            plan.settings,
            size=plan.size_after,
            target=plan.target,
            pattern=plan.pattern,
            comment=comment,
        )

    # --- the work ------------------------------------------------------------------------------

    def _computed(self, engine: Engine, sink: VideoSink | SequenceSink) -> tuple[Index, Outcome]:
        """Do all units; cut anew, once, where the frames turn out not to be what was promised."""
        work = VideoWork(
            source=self._plan.source.absolute(),
            folder=self._folder.absolute(),
            settings=self._plan.network,
            perception=self._plan.perception,
            target=sink.target,
        )
        index = self._index(sink, decode=False)
        try:
            return index, self._performed(work, index, engine)
        except Unlisted:
            index = self._index(sink, decode=True)
            return index, self._performed(work, index, engine)

    def _index(self, sink: VideoSink | SequenceSink, *, decode: bool) -> Index:
        """Which frames there are, with times that the output keeps apart.

        Not those that the source had to move apart: what they were is lost anyway.
        """
        index = self._found(decode=decode)
        if isinstance(sink, VideoSink) and MOVED not in index.noted:
            sink.check_apart(index.times)
        return index

    def _found(self, *, decode: bool) -> Index:
        path = self._folder / _FRAMES
        if not decode and path.exists():
            with suppress(ValueError):
                return Index(**json.loads(path.read_text()))
        index = None if decode else by_packets(self._source)
        if index is None:
            index = by_frames(self._source, self._look)
            path.write_text(json.dumps(index.to_dict()))
        if not index.times:
            raise MediaError(f"{self._plan.source}: no frame of its video can be decoded")
        return index

    def _look(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("stopped while the frames were counted")

    def _performed(self, work: "VideoWork", index: Index, engine: Engine) -> Outcome:
        before = lead(self._source)
        self._done, self._live, self._of = {}, {}, len(index.times)
        for old in self._journal.receipts():
            unit = unit_of(index, old.facts["first"], old.size, before)
            kept = self._journal.kept(unit)
            if kept is not None:
                self._done[unit.name] = kept
        self._frames = self._before = sum(receipt.size for receipt in self._done.values())
        kept_parts = [range(r.facts["first"], r.facts["first"] + r.size) for r in self._in_order()]
        settings = self._plan.settings
        length = CELL if settings.segment == "auto" else settings.segment
        units = cut(index, length, kept_parts, before)
        if not units:
            return Outcome()
        try:
            outcome = self._spread(work, units, engine)
        except Cancelled as error:
            raise self._stopped(error) from None
        raise_failures(outcome.failures, len(units) + len(kept_parts))
        return outcome

    def _spread(self, work: "VideoWork", units: Sequence[Unit], engine: Engine) -> Outcome:
        """Do units here, or let Dask's workers do them."""
        settings = self._plan.settings
        return performed(
            work,
            units,
            engine=engine,
            workers=settings.workers,
            scheduler=settings.scheduler,
            done=self._filed,
            advance=self._advanced,
            cancelled=self._cancelled,
        )

    def _filed(self, receipt: Receipt) -> None:
        self._journal.add(receipt)
        self._done[receipt.unit] = receipt
        self._frames += receipt.size
        self._live.pop(receipt.unit, None)

    def _advanced(self, unit: str, frames: int) -> None:
        if unit and unit not in self._done:
            self._live[unit] = frames
        done = self._frames + sum(list(self._live.values()))
        seconds = time.monotonic() - self._began
        facts = {"done": done, "of": self._of, "unit": "frame", "seconds": seconds}
        facts["fps"] = (done - self._before) / max(seconds, 1e-9)
        self._report(Event(kind="progress", source=self._plan.source, facts=facts))

    def _stopped(self, error: Cancelled) -> Cancelled:
        if not self._frames:
            return error
        return Cancelled(
            f"stopped; {self._frames} of {self._of} frames are kept, and the same command goes on"
        )

    # --- the result ----------------------------------------------------------------------------

    def _ways(self) -> tuple[str, str]:
        """The devices and the precisions that all units were computed on and in."""
        facts = [receipt.facts for receipt in self._done.values()]
        ways = sorted({(each["precision"], each["device"]) for each in facts})
        devices, precisions = ({way[place]: None for way in ways} for place in (1, 0))
        return ", ".join(devices), ", ".join(precisions)

    def _record(self) -> dict[str, Any]:
        """Where the result comes from."""
        device, precision = self._ways()
        return provenance.record(
            self._plan,
            normalisation="black and white, as the video says its codes mean, are 0 and 1",
            device=device,
            precision=precision,
            counts={},
        )

    def _tell(
        self, index: Index, engine: Engine, sink: VideoSink | SequenceSink, record: dict[str, Any]
    ) -> None:
        """Write the report, of the files as they are."""
        plan = self._plan
        ask = None
        if plan.settings.ensemble:
            bits = self._source.layout.bits
            ask = disagreement_of(
                engine.upscaler(plan.network, perception=plan.perception, bits=bits)
            )
        before, after = opened(plan.source, plan.settings), VideoSource(sink.path)
        try:
            findings = of_video(before, index, after, disagreement=ask, look=self._look)
        finally:
            before.close()
            after.close()
        tell(plan.target, findings, record, plan.perception)

    def _in_order(self) -> list[Receipt]:
        return sorted(self._done.values(), key=lambda receipt: receipt.facts["first"])

    def _summed(
        self,
        index: Index,
        outcome: Outcome,
        sink: VideoSink | SequenceSink,
        checked: dict[str, Any],
    ) -> Result:
        receipts = self._in_order()
        seconds = time.monotonic() - self._began
        of_units: Counter[str] = Counter()
        for receipt in receipts:
            of_units.update(receipt.facts["noted"])
        noted = {**of_units, **index.noted}  # the index, if it noted any, has seen all frames
        device, precision = self._ways()
        notices = [*self._plan.notices, *notices_of(noted), *self._source.notices, *sink.notices]
        if ", " in precision:
            notices.append(f"parts were computed in different precisions: {precision}")
        return self._plan.result(
            status="truncated" if index.truncated or DAMAGED in noted else "done",
            frames=self._of,
            seconds=seconds,
            fps=(self._of - self._before) / max(seconds, 1e-9),
            limited_by=max(outcome.busy, key=outcome.busy.__getitem__, default=None),
            device=device,
            precision=precision,
            recomputed=sum(r.facts["recomputed"] for r in receipts),
            repeated=sum(r.facts["repeated"] for r in receipts),
            notices=tuple(dict.fromkeys(notices)),
            checked=checked,
        )


@dataclass(frozen=True, kw_only=True)
class VideoWork:
    """What all units of a video have in common; no pixels and no weights.

    Parameters
    ----------
    settings : those that name the network itself
    target : what frames are encoded as
    """

    source: Path
    folder: Path
    settings: RunSettings
    perception: float | None
    target: Target

    def begun(self, engine: Engine | None = None) -> "VideoWorker":
        """Open the video and load the network, in the process that is to do the work."""
        return VideoWorker(self, engine or Engine())


class VideoWorker:
    """Does units of one video; the network and the file stay open between them."""

    def __init__(self, work: VideoWork, engine: Engine) -> None:
        self._work = work
        self._source = opened(work.source, work.settings)
        self._reader = Reader(self._source)
        bits = self._source.layout.bits
        self._upscaler = engine.upscaler(work.settings, perception=work.perception, bits=bits)
        self._recomputed = self._upscaler.recomputed

    def perform(
        self, units: Sequence[Unit], *, done: Done, advance: Advance, cancelled: threading.Event
    ) -> Outcome:
        """Decode, enlarge and encode at the same time, from one unit into the next.

        Raises
        ------
        SrpipeError
            What is not the fault of one unit.
        """
        outcome, left = Outcome(), list(units)
        while left:
            line = _Line(self, left, done)
            try:
                line.run(advance, cancelled, outcome)
            except OF_ONE_UNIT as error:
                outcome.failures[line.failing or left[line.inferring].name] = error
            left = [u for u in left if u.name not in line.finished | outcome.failures.keys()]
        return outcome

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()
        self._reader.close()

    def frames(self, unit: Unit, noted: dict[str, dict[str, int]]) -> Iterator[Frame]:
        """The unit's frames; what is odd about them is noted before the last one comes."""
        key: Key | None = unit.hints["key"]
        times = unit.facts["times"]
        found = self._reader.frames(unit.facts["first"], times, key, last=unit.hints["last"])
        for number, frame in enumerate(found, 1):
            if number == len(times):
                noted[unit.name] = self._reader.noted
            yield frame
            del frame

    def shots(self, cancelled: threading.Event) -> Shots:
        """What the frames of a shot share."""
        return Shots(self._upscaler, cancelled)

    def enlarger(self, shots: Shots, cancelled: threading.Event) -> Repeats:
        """What makes of each frame the one to write."""
        target = self._work.target
        layout, size = target.encoding.layout, (target.height, target.width)
        settings = self._work.settings
        enlarge = Enlarger(
            *(self._upscaler, layout, size),
            cancelled=cancelled,
            statistics=shots,
            project=settings.consistency == "project",
        )
        return Repeats(enlarge, look=settings.dedupe == "exact")

    def sink(self, unit: Unit) -> PieceSink:
        """A file for the unit's frames."""
        path = part_of_slot(self._work.folder, unit.name)
        return PieceSink(path, self._source, self._work.target)

    def receipt(self, unit: Unit, path: Path, seconds: float, **facts: Any) -> Receipt:
        """Put a unit's finished file into its slot."""
        recomputed = self._upscaler.recomputed - self._recomputed
        self._recomputed = self._upscaler.recomputed
        times = unit.facts["times"]
        facts |= {
            "first": unit.facts["first"],
            "pts": [times[0], times[-1]],
            "recomputed": recomputed,
            "device": str(self._upscaler.device),
            "precision": self._upscaler.precision,
        }
        return sealed(path, self._work.folder, unit, seconds=seconds, facts=facts)


@dataclass
class _Line:
    """Units one after the other through one stream, which stays filled from each to the next."""

    worker: VideoWorker
    units: Sequence[Unit]
    done: Done
    finished: set[str] = field(default_factory=set)
    inferring: int = 0  # which of the units the network is at
    failing: str | None = None  # the one that could not be written
    _noted: dict[str, dict[str, int]] = field(default_factory=dict)
    _broken: tuple[Unit, SrpipeError] | None = None
    _repeated: int = 0

    def run(self, advance: Advance, cancelled: threading.Event, outcome: Outcome) -> None:
        """Do the units up to the first one that cannot be read, which joins the failures."""
        shots = self.worker.shots(cancelled)
        self._enlarge = self.worker.enlarger(shots, cancelled)
        sink = _Slots(self)
        left_in_unit = self.units[0].size

        def infer(frame: Frame) -> Frame:
            nonlocal left_in_unit
            if not left_in_unit:
                self.inferring += 1
                left_in_unit = self.units[self.inferring].size
            if shots.matter and (self.units[self.inferring].size - left_in_unit) % CELL == 0:
                shots.begin()
                self._enlarge.forget()
            left_in_unit -= 1
            with memory_told(f"unit {self.units[self.inferring].name}"):
                return self._enlarge(frame)

        try:
            summary = stream.run(
                *(self._frames(), infer, sink),
                queue_bytes=QUEUE_BYTES,
                report=lambda now: advance(*sink.at),
                cancelled=cancelled,
            )
        except BaseException:
            sink.abort()
            raise
        outcome.busy.update(summary.busy)
        if self._broken is not None:
            sink.abort()
            unit, error = self._broken
            outcome.failures[unit.name] = error

    def _frames(self) -> Iterator[Frame]:
        for unit in self.units:
            try:
                with memory_told(f"unit {unit.name}, where it is decoded"):
                    yield from self.worker.frames(unit, self._noted)
            except OF_ONE_UNIT as error:
                self._broken = unit, error
                return

    def file(self, unit: Unit, piece: PieceSink, seconds: float) -> None:
        """Finish a unit's piece and hand in its receipt."""
        piece.close()
        repeated, self._repeated = self._enlarge.count - self._repeated, self._enlarge.count
        facts = {"noted": self._noted[unit.name], "repeated": repeated}
        self.done(self.worker.receipt(unit, piece.path, seconds, **facts))
        self.finished.add(unit.name)


class _Slots:
    """A sink that fills the slots of units, one after the other.

    It is not aborted amid a write: `stream.run` does not wait for a slow encoder when it is
    cancelled, and to close a file under an encoder that is at work ends the process. What is
    written then is left to the thread that does it, and to the next run to clear away.
    """

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._units = iter(line.units)
        self._unit: Unit | None = None
        self._piece: PieceSink | None = None
        self._count = 0
        self._began = time.monotonic()
        self._at_work = threading.Lock()
        self.at = ("", 0)  # which unit is being written, and how many frames of it are

    def write(self, frame: Frame) -> None:
        with self._at_work:
            if self._piece is None:
                self._unit = next(self._units)
                self._piece, self._count = self._line.worker.sink(self._unit), 0
            assert self._unit is not None
            try:
                with memory_told(f"unit {self._unit.name}, where it is encoded"):
                    self._put(frame, self._unit, self._piece)
            except OF_ONE_UNIT:
                self._line.failing = self._unit.name
                raise

    def _put(self, frame: Frame, unit: Unit, piece: PieceSink) -> None:
        piece.write(frame)
        self._count += 1
        self.at = unit.name, self._count
        if self._count == unit.size:
            now = time.monotonic()
            self._line.file(unit, piece, now - self._began)
            self._piece, self._began = None, now

    def close(self) -> None:
        """Each piece is closed with its last frame."""

    def abort(self) -> None:
        if self._at_work.acquire(blocking=False) and self._piece is not None:
            self._piece.abort()
