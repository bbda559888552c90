"""Enlarge one raster, block by block, whatever its size; see `srpipe.blocks`.

A unit is a block of the target that lies on its write grid, so that no two units ever touch one
file. What it needs of the source it reads itself, with what the network sees around it.
"""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from srpipe.blocks import Blocks, Counts, Enlarged, Numbers, Shared
from srpipe.errors import Cancelled, TargetError
from srpipe.io.raster import Block, Raster, RasterSink, Window
from srpipe.io.raster_formats import open_raster, open_sink
from srpipe.jobs import provenance
from srpipe.jobs.engine import Engine
from srpipe.jobs.job import (
    Advance,
    Done,
    Outcome,
    Receipt,
    Unit,
    checksum,
    one_by_one,
    part_of_slot,
    raise_failures,
    sealed,
    slot,
    synced,
)
from srpipe.jobs.journal import Journal, fingerprint
from srpipe.jobs.plan import Plan
from srpipe.jobs.raster_range import about_range, ranged
from srpipe.jobs.report import Event, Report, Result
from srpipe.jobs.samples import of_raster
from srpipe.jobs.spread import performed
from srpipe.jobs.target import WHOLE, workplace
from srpipe.jobs.trusted import disagreement_of, tell, untell
from srpipe.models import MODELS
from srpipe.settings import RunSettings
from srpipe.trust import Tally
from srpipe.validity import holds
from srpipe.windows import Span, within

STATISTICS = "statistics"
"""The unit that comes before all others, where the network looks at the whole."""


def run(plan: Plan, engine: Engine, *, report: Report, cancelled: threading.Event) -> Result:
    """Do the blocks that are not done yet, make the target of all, look at it, publish it.

    Raises
    ------
    SrpipeError
        If anything is in the way. What is finished is kept, and nothing else is left behind.
    """
    with (
        workplace(plan.target, restart=plan.settings.restart, claimed=plan.claimed) as folder,
        closing(Journal(folder, fingerprint(plan))) as journal,
    ):
        return _Run(plan, journal, report, cancelled).result(engine)


def unit_of(window: Window) -> Unit:
    """The unit of a block of the target."""
    facts = {axis: list(getattr(window, axis)) for axis in "tzyx"}
    name = "-".join(f"{axis}{start:0{5}}" for axis, (start, _) in facts.items())
    return Unit(name=name, size=1, facts=facts)


def window_of(unit: Unit) -> Window:
    """The block that a unit is of."""
    t, z, y, x = (tuple(unit.facts[axis]) for axis in "tzyx")
    return Window(t, z, y, x)


class _Run:
    """One raster from its plan to its result."""

    def __init__(
        self, plan: Plan, journal: Journal, report: Report, cancelled: threading.Event
    ) -> None:
        assert plan.raster is not None
        self._plan, self._raster = plan, plan.raster
        self._journal, self._folder = journal, journal.folder
        self._report, self._cancelled = report, cancelled
        self._done: dict[str, Receipt] = {}
        self._began = time.monotonic()

    def result(self, engine: Engine) -> Result:
        """What became of the plan; the result lies in the folder then."""
        grid, target = self._raster.grid, self._raster.target
        growing = self._folder / self._plan.target.name
        if (self._folder / WHOLE).is_dir():  # the last run was killed before it had its name
            os.replace(self._folder / WHOLE, growing)
        sink = open_sink(target.format, growing, target, grid, self._folder / "blocks")
        sink.begin()
        work = RasterWork(
            source=self._plan.source.absolute(),
            folder=self._folder.absolute(),
            settings=self._plan.network,
            perception=self._plan.perception,
            numbers=ranged(self._plan, self._journal, self._cancelled),
            sink=sink,
            shared=self._shares,
        )
        self._performed(work, engine)
        receipts = [self._done[unit_of(window).name] for window in grid]
        record = self._record(work.numbers, receipts)
        sink.close(provenance.text(record))
        os.replace(growing, self._folder / WHOLE)
        checked = _checked(self._folder / WHOLE, target)
        self._look()
        if self._plan.settings.report:
            self._tell(work.numbers, receipts, record, engine)
        else:
            untell(self._plan.target)
        return self._summed(work.numbers, receipts, checked)

    @property
    def _shares(self) -> bool:
        """Whether blocks share statistics of the whole: not where each plane is one block."""
        entry = self._plan.entry
        known = MODELS.get(entry.card.family) if entry.cards else None
        return known is not None and known.statistics == "global" and not self._raster.one_block

    # --- the work ------------------------------------------------------------------------------

    def _performed(self, work: "RasterWork", engine: Engine) -> None:
        units = [unit_of(window) for window in self._raster.grid]
        for unit in units:
            kept = self._journal.kept(unit, work.sink.files(window_of(unit)))
            if kept is not None:
                self._done[unit.name] = kept
        left = [unit for unit in units if unit.name not in self._done]
        try:
            if left and work.shared:
                self._gathered(work, engine)
            self._advanced()
            outcome = self._spread(work, left, engine)
        except Cancelled as error:
            raise self._stopped(error) from None
        raise_failures(outcome.failures, len(units))

    def _gathered(self, work: "RasterWork", engine: Engine) -> None:
        """Have the statistics of the whole in their slot."""
        unit = Unit(STATISTICS, 1, {})
        if self._journal.kept(unit) is None:
            # one process is enough for it, and this one will do where there is no cluster
            settings = replace(self._plan.settings, workers=None)
            outcome = self._spread(work, [unit], engine, settings)
            raise_failures(outcome.failures, 1)

    def _spread(
        self,
        work: "RasterWork",
        units: Sequence[Unit],
        engine: Engine,
        settings: RunSettings | None = None,
    ) -> Outcome:
        """Do units here, or let Dask's workers do them."""
        settings = settings or self._plan.settings
        return performed(
            work,
            units,
            engine=engine,
            workers=settings.workers,
            scheduler=settings.scheduler,
            done=self._filed,
            advance=_unheard,
            cancelled=self._cancelled,
        )

    def _filed(self, receipt: Receipt) -> None:
        self._journal.add(receipt)
        if receipt.unit != STATISTICS:
            self._done[receipt.unit] = receipt
            self._advanced()

    def _advanced(self) -> None:
        facts = {"done": len(self._done), "of": len(self._raster.grid), "unit": "block"}
        seconds = {"seconds": time.monotonic() - self._began}
        self._report(Event(kind="progress", source=self._plan.source, facts=facts | seconds))

    def _stopped(self, error: Cancelled) -> Cancelled:
        if not self._done:
            return error
        return Cancelled(
            f"stopped; {len(self._done)} of {len(self._raster.grid)} blocks are kept, and the same"
            " command goes on"
        )

    # --- the result ----------------------------------------------------------------------------

    def _record(self, numbers: Numbers, receipts: Sequence[Receipt]) -> dict[str, Any]:
        """Where the result comes from."""
        devices, precisions = _ways(receipts)
        return provenance.record(
            self._plan,
            normalisation=provenance.between(numbers.range),
            device=", ".join(devices),
            precision=", ".join(precisions),
            counts=asdict(_counts(receipts)),
            earlier=provenance.earlier(self._raster.source.record),
        )

    def _tell(
        self,
        numbers: Numbers,
        receipts: Sequence[Receipt],
        record: dict[str, Any],
        engine: Engine,
    ) -> None:
        """Write the report, of the files as they are."""
        plan, tally = self._plan, Tally()
        for receipt in receipts:
            if "tally" in receipt.facts:
                tally.merge(Tally.from_dict(receipt.facts["tally"]))
        ask = None
        if plan.settings.ensemble:
            bits = 8 * numbers.dtype.itemsize
            ask = disagreement_of(
                engine.upscaler(plan.network, perception=plan.perception, bits=bits)
            )
        with (
            closing(open_raster(plan.source)) as before,
            closing(open_raster(self._folder / WHOLE)) as after,
        ):
            findings = of_raster(before, after, numbers, tally, disagreement=ask, look=self._look)
        tell(plan.target, findings, record, plan.perception)

    def _look(self) -> None:
        if self._cancelled.is_set():
            raise self._stopped(Cancelled("stopped before the raster was published"))

    def _summed(
        self, numbers: Numbers, receipts: Sequence[Receipt], checked: dict[str, Any]
    ) -> Result:
        seconds, counts = time.monotonic() - self._began, _counts(receipts)
        devices, precisions = _ways(receipts)
        notices = [*self._plan.notices, *about_range(self._plan, numbers, counts)]
        if len(precisions) > 1:
            notices.append(f"parts were computed in different precisions: {', '.join(precisions)}")
        counted = sum("tally" in receipt.facts for receipt in receipts)
        if self._plan.settings.report and counted < len(receipts):
            notices.append(
                f"the report counts {counted} of {len(receipts)} blocks; the others were kept from"
                " a run without --report, and --restart makes them anew"
            )
        return self._plan.result(
            status="done",
            frames=self._raster.planes,
            seconds=seconds,
            fps=self._raster.planes / max(seconds, 1e-9),
            device=", ".join(devices),
            precision=", ".join(precisions),
            recomputed=sum(r.facts["recomputed"] for r in receipts),
            clipped=counts.clipped,
            numbers={
                "bands": self._raster.source.shape[1],
                "range": [numbers.range.low, numbers.range.high],
                "groups": [list(group) for group in numbers.groups],
                "blocks": len(receipts),
                **asdict(counts),
            },
            notices=tuple(dict.fromkeys(notices)),
            checked=checked,
        )


@dataclass(frozen=True, kw_only=True)
class RasterWork:
    """What all blocks of a raster have in common; no pixels and no weights.

    Parameters
    ----------
    settings : those that name the network itself
    sink : takes the blocks
    shared : whether they share statistics of the whole, which then lie in their slot
    """

    source: Path
    folder: Path
    settings: RunSettings
    perception: float | None
    numbers: Numbers
    sink: RasterSink
    shared: bool

    def begun(self, engine: Engine | None = None) -> "RasterWorker":
        """Open the raster and load the network, in the process that is to do the work."""
        return RasterWorker(self, engine or Engine())


class RasterWorker:
    """Does blocks of one raster; the network and the file stay open between them."""

    def __init__(self, work: RasterWork, engine: Engine) -> None:
        self._work = work
        self._source = open_raster(work.source)
        self._shape = self._source.raster.shape
        bits = 8 * work.numbers.dtype.itemsize
        self._upscaler = engine.upscaler(work.settings, perception=work.perception, bits=bits)
        self._recomputed = self._upscaler.recomputed
        settings = work.settings
        self._blocks = Blocks(
            self._upscaler,
            work.numbers,
            project=settings.consistency == "project",
            tally=settings.report,
        )
        self._statistics: Shared | None = None

    def perform(
        self, units: Sequence[Unit], *, done: Done, advance: Advance, cancelled: threading.Event
    ) -> Outcome:
        """Do blocks one after the other.

        Raises
        ------
        SrpipeError
            What is not the fault of one block.
        """

        def make(unit: Unit, cancelled: threading.Event) -> Receipt:
            made = self._gathered if unit.name == STATISTICS else self._done
            return made(unit, cancelled)

        return one_by_one(make, units, done=done, cancelled=cancelled)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def _gathered(self, unit: Unit, cancelled: threading.Event) -> Receipt:
        """Put the statistics of the whole into their slot."""
        began = time.monotonic()
        times, depths, height, width = (self._shape[i] for i in (0, 2, 3, 4))

        def read(plane: int, rows: Span, columns: Span) -> tuple[np.ndarray, np.ndarray | None]:
            t, z = divmod(plane, depths)
            block = self._source.read(Window((t, t + 1), (z, z + 1), rows, columns))
            return block.pixels[0, :, 0], None if block.valid is None else block.valid[0, :, 0]

        sample = self._blocks.sample(height, width, planes=times * depths)
        found = self._blocks.statistics(read, sample, cancelled=cancelled.is_set)
        part = part_of_slot(self._work.folder, unit.name)
        save_file({name: tensor.cpu() for name, tensor in (found or {}).items()}, part)
        seconds = time.monotonic() - began
        return sealed(part, self._work.folder, unit, seconds=seconds, facts={})

    def _done(self, unit: Unit, cancelled: threading.Event) -> Receipt:
        began = time.monotonic()
        if self._work.shared and self._statistics is None:
            self._statistics = load_file(slot(self._work.folder, STATISTICS))
        window = window_of(unit)
        planes = self._enlarged(window, cancelled)
        pixels = np.stack([plane.pixels for plane in planes], axis=1)[None]
        masks = [plane.valid for plane in planes if plane.valid is not None]  # of all, or of none
        valid = np.stack(masks, axis=1)[None] if masks else None
        files = self._work.sink.write(window, Block(pixels, valid))
        for path in files:
            synced(path)
        for folder in {path.parent for path in files}:
            synced(folder)
        return Receipt(
            unit=unit.name,
            digest=unit.digest,
            size=unit.size,
            checksum=checksum(*files),
            bytes=sum(path.stat().st_size for path in files),
            seconds=round(time.monotonic() - began, 3),
            facts=self._facts(planes),
        )

    def _enlarged(self, window: Window, cancelled: threading.Event) -> list[Enlarged]:
        """The planes of a block."""
        low = window.reduced(self._blocks.scale)
        seen = self._blocks.read_for((*low.y, *low.x), *self._shape[3:])
        inner = within((*low.y, *low.x), seen)
        read = self._source.read(replace(low, y=seen[:2], x=seen[2:]))
        return [
            self._blocks.enlarged(
                read.pixels[0, :, z],
                None if read.valid is None else read.valid[0, :, z],
                inner,
                statistics=self._statistics,
                cancelled=cancelled.is_set,
            )
            for z in range(read.pixels.shape[2])
        ]

    def _facts(self, planes: Sequence[Enlarged]) -> dict[str, Any]:
        recomputed = self._upscaler.recomputed - self._recomputed
        self._recomputed = self._upscaler.recomputed
        facts: dict[str, Any] = {
            "counts": asdict(sum((plane.counts for plane in planes), Counts())),
            "recomputed": recomputed,
            "device": str(self._upscaler.device),
            "precision": self._upscaler.precision,
        }
        tally = Tally()
        for plane in planes:
            if plane.tally is not None:
                tally.merge(plane.tally)
        return facts | ({"tally": tally.to_dict()} if tally.bands else {})


def _counts(receipts: Sequence[Receipt]) -> Counts:
    """What happened to the numbers of all blocks."""
    return sum((Counts(**receipt.facts["counts"]) for receipt in receipts), Counts())


def _ways(receipts: Sequence[Receipt]) -> tuple[list[str], list[str]]:
    """The devices and the precisions in which blocks were computed."""
    facts = [receipt.facts for receipt in receipts]
    return sorted({f["device"] for f in facts}), sorted({f["precision"] for f in facts})


def _unheard(unit: str, size: int) -> None:
    """A block is done or not; nothing is told in between."""


def _checked(path: Path, target: Raster) -> dict[str, Any]:
    """What the finished file says of itself.

    Raises
    ------
    TargetError
        If that is not what was written.
    """
    with closing(open_raster(path)) as opened:
        found = opened.raster
    lost = [what for what, kept in _kept(found, target).items() if not kept]
    if lost:
        raise TargetError(
            f"{path} is not what was written to it ({', '.join(lost)}); report this as a bug"
        )
    return {"shape": list(found.shape), "dtype": str(found.dtype), "format": found.format}


def _kept(found: Raster, target: Raster) -> dict[str, bool]:
    """What a target may say, and whether a file says the same where it does."""
    here, there = found.world, target.world
    points = [[(p.row, p.column, p.x, p.y) for p in world.points] for world in (here, there)]
    rpc = here.rpc or {}
    return {
        "its size": found.shape == target.shape,
        "its number type": found.dtype == target.dtype,
        "its place": there.affine is None or _near(here.affine, there.affine),
        "its coordinate system": bool(here.crs or not there.crs),
        "its ground control points": not points[1] or _near(*points),
        "the coordinate system of those": bool(here.points_crs or not there.points_crs),
        "its polynomials": all(_near(rpc.get(k), v) for k, v in (there.rpc or {}).items()),
        "its nodata number": _same_nodata(found, target),
        "its mask": found.masked or not target.masked,
    }


def _near(here: Any, there: Any) -> bool:
    """Whether numbers are the same; None is no number."""
    alike = here is not None and np.shape(here) == np.shape(there)
    return alike and np.allclose(here, there, rtol=1e-9, atol=1e-9)


def _same_nodata(found: Raster, target: Raster) -> bool:
    """Whether one number stands for nodata in both, where the type has that of the second."""
    here, there = found.nodata, target.nodata
    if there is None or not holds(target.dtype, there):
        return True
    return here == there or (here is not None and np.isnan(here) and np.isnan(there))
