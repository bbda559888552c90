"""What a result keeps of its input and what it adds to it, told in numbers and pictures.

It is found in samples of both; `samples` takes them from the files. It goes into
``OUT.report.json`` and, with pictures, into ``OUT.report.html`` (`report_page`); both appear whole,
with the result or not at all.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe import trust
from srpipe.infer import Upscaler
from srpipe.jobs.report_page import Place, page
from srpipe.jobs.target import published
from srpipe.metrics import Flicker
from srpipe.resample import resize

RGB = ("red", "green", "blue")

SHOWN = 3
"""Places on the page: those to which most was added."""

SHOWN_SIDE = 192
"""Of such a place, in pixels of the result."""

TIMES = {"added detail": 4, "residual": 16, "model disagreement": 16}
"""How many times stronger than it is each of them is shown."""

_AROUND = 24  # input pixels around a place, for the network to see when it is asked again

Disagreement = Callable[[Tensor], Tensor]
"""How far an ensemble's results lie apart, (1, 3, H, W), for an input (1, 3, h, w)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A part of an input and what became of it.

    Parameters
    ----------
    name : which part it is; empty for the whole
    low, high : float tensors (C, h, w) and (C, H, W) on the CPU, in one unit
    valid : which input pixels hold a measurement, (C, h, w)
    black, white : the numbers that are shown as such
    top, left : row and column of the result at which it begins
    """

    name: str
    low: Tensor
    high: Tensor
    valid: Tensor | None = None
    black: float = 0.0
    white: float = 1.0
    top: int = 0
    left: int = 0


class Findings:
    """What is found in samples of one result.

    Parameters
    ----------
    unit : what 1 is in the pixels, in words
    names : of the bands; by default red, green and blue, or numbers
    disagreement : asks an ensemble again, where one was wanted
    """

    def __init__(
        self,
        *,
        unit: str = "1 is white",
        names: Sequence[str] = (),
        disagreement: Disagreement | None = None,
    ) -> None:
        self.unit = unit
        self._names = names
        self.tally = trust.Tally()
        self.flicker = Flicker()
        self._disagreement = disagreement
        self._shifts: list[tuple[float, float]] = []
        self._places: list[Place] = []

    def add(self, sample: Sample, *, counted: bool = True) -> None:
        """Take in a sample.

        Parameters
        ----------
        counted : whether it belongs into the tally, which may also come from elsewhere, whole
        """
        if counted:
            self.tally.add(sample.low, sample.high, valid=sample.valid)
        low, high = _filled(sample)
        found = trust.shift(low, high)
        if found is not None:
            self._shifts.append(found)
        self._places.append(_place(sample, low, high, self._disagreement))
        self._places = sorted(self._places, key=lambda place: -place.added)[:SHOWN]

    @property
    def places(self) -> list[Place]:
        """Where most was added, most first."""
        return self._places

    def to_dict(self) -> dict[str, Any]:
        """What is found, in plain values."""
        figures = self.tally.figures()
        bands = figures["bands"]
        names = self._names or (RGB if len(bands) == len(RGB) else range(len(bands)))
        figures["bands"] = [
            {"name": str(name), **band} for name, band in zip(names, bands, strict=True)
        ]
        facts: dict[str, Any] = {"agreement": {"unit": self.unit, **figures}}
        if self._shifts:
            down, right = zip(*self._shifts, strict=True)
            facts["shift"] = {
                "unit": "input pixels",
                "down": median(down),
                "right": median(right),
                "most": max(map(math.hypot, down, right)),
            }
        if self.flicker.pairs:
            flicker = self.flicker
            told = {"total": flicker.total, "coarse": flicker.coarse, "still": flicker.still}
            finite = {k: v if math.isfinite(v) else None for k, v in told.items()}
            facts["flicker"] = {"unit": "8-bit levels", **finite}
        facts["places"] = [
            {
                "name": place.name,
                "rows": place.rows,
                "columns": place.columns,
                "added_detail": place.added,
                "model_disagreement": place.disagreement,
            }
            for place in self._places
        ]
        return facts


def disagreement_of(upscaler: Upscaler) -> Disagreement | None:
    """Asks the network in all eight ways, if it is an ensemble."""
    if not upscaler.ensemble:
        return None
    return lambda low: upscaler.mean_and_spread(low)[1].cpu()


def tell(
    target: Path, findings: Findings, record: Mapping[str, Any], perception: float | None
) -> None:
    """Write the report's two files.

    Raises
    ------
    TargetError
        If they cannot be written.
    """
    facts = {
        "result": target.name,
        "warning": trust.warning(perception),
        **findings.to_dict(),
        "record": record,
    }
    as_json, as_html = files_of(target)
    with published(as_json) as json_part, published(as_html) as html_part:
        json_part.write_text(json.dumps(facts, indent=1) + "\n")
        # a file's name may hold bytes that are no text
        html = page(facts, findings.places, TIMES)
        html_part.write_text(html, encoding="utf-8", errors="backslashreplace")


def untell(target: Path) -> None:
    """Remove the report of an earlier result of this name."""
    for path in files_of(target):
        if os.path.lexists(path):  # not where its name would be too long for a file
            path.unlink(missing_ok=True)


def files_of(target: Path) -> tuple[Path, Path]:
    """The names of a result's report: JSON, and HTML."""
    json_file, html_file = (f"{target.name}.report.{kind}" for kind in ("json", "html"))
    return target.with_name(json_file), target.with_name(html_file)


def _filled(sample: Sample) -> tuple[Tensor, Tensor]:
    """The pixels in float32, 0 where nothing was measured."""
    low, high = sample.low.float(), sample.high.float()
    if sample.valid is None:
        return low, high
    fine = trust.on_larger(sample.valid, (high.shape[-2], high.shape[-1]))
    return low.where(sample.valid, 0.0), high.where(fine, 0.0)


# --- what is shown -----------------------------------------------------------------------------


def _place(sample: Sample, low: Tensor, high: Tensor, ask: Disagreement | None) -> Place:
    """The square to which most was added."""
    detail = trust.added_detail(low, high)
    height, width = low.shape[-2:]
    tall, wide = (high.shape[i] / low.shape[i] for i in (1, 2))
    side = max(1, min(round(SHOWN_SIDE / max(tall, wide)), height, width))
    energy = F.adaptive_avg_pool2d(detail.square().mean(0)[None], (height, width))
    sums = F.avg_pool2d(energy, side, stride=1)[0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    rows, columns = _times((top, top + side), tall), _times((left, left + side), wide)
    here = (slice(None), slice(top, top + side), slice(left, left + side))
    there = (slice(None), slice(*rows), slice(*columns))
    span = sample.white - sample.black
    seen = {
        "input": (low[here] - sample.black) / span,
        "result": (high[there] - sample.black) / span,
        "added detail": 0.5 + TIMES["added detail"] * detail[there] / span,
        "residual": 0.5 + TIMES["residual"] * trust.residual(low, high)[here] / span,
    }
    spread = None if ask is None else _spread(low, high, here, there, ask)
    if spread is not None:
        seen["model disagreement"] = TIMES["model disagreement"] * spread / span
    return Place(
        name=sample.name,
        rows=(sample.top + rows[0], sample.top + rows[1]),
        columns=(sample.left + columns[0], sample.left + columns[1]),
        added=_rms(detail[there]),
        disagreement=None if spread is None else _rms(spread),
        panels={name: _panel(x) for name, x in seen.items()},
    )


def _spread(
    low: Tensor,
    high: Tensor,
    here: tuple[slice, ...],
    there: tuple[slice, ...],
    ask: Disagreement,
) -> Tensor | None:
    """How far an ensemble lies apart in a place, (3, H, W); None for bands that are no colours."""
    if len(low) not in (1, 3):
        return None
    _, rows, columns = here
    y, x = max(rows.start - _AROUND, 0), max(columns.start - _AROUND, 0)
    seen = low[:, y : rows.stop + _AROUND, x : columns.stop + _AROUND]
    found = ask(seen.expand(3, -1, -1)[None].contiguous())
    scale = found.shape[-1] // seen.shape[-1]
    top, left = (rows.start - y) * scale, (columns.start - x) * scale
    side = (rows.stop - rows.start) * scale
    found = found[..., top : top + side, left : left + side]
    size = there[1].stop - there[1].start, there[2].stop - there[2].start
    return resize(found, size)[0].clamp(min=0)


def _panel(x: Tensor) -> np.ndarray:
    """Pixels (C, h, w) from 0 to 1 as a picture of the page's size; grey unless there are three."""
    x = x if len(x) == 3 else x[:1]
    large = F.interpolate(x[None], (SHOWN_SIDE, SHOWN_SIDE), mode="nearest-exact")[0]
    levels = (large.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().numpy()


def _times(span: tuple[int, int], times: float) -> tuple[int, int]:
    return round(span[0] * times), round(span[1] * times)


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
