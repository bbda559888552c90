"""What a run shows of itself: a CSV file, lines, a picture, and TensorBoard where installed."""

import csv
import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from PIL import Image
from torch import Tensor

from srpipe.metrics import mean
from srpipe.pixels import from_unit
from srpipe.zoo.store import put
from training.clock import Clock
from training.recipe import Recipe
from training.validate import Findings

SHOWN_APART = ("step", "seconds", "samples_per_s")
"""What a line for people gives in its own way."""


class Seen:
    """The values of the steps since the last entry, and the step of that entry."""

    def __init__(self, logged: int = 0) -> None:
        self.logged, self.values = logged, list[Mapping[str, float]]()

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"logged": self.logged, "values": [dict(each) for each in self.values]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was seen before."""
        self.logged, self.values = state["logged"], list(state["values"])


class Watch:
    """The folder of a run, open for writing.

    ``log.csv`` has a line for each entry, ``held_out.png`` the last picture; TensorBoard's files
    lie beside them. Loss_D, Loss_G, Score_D, Score_G, PSNR and SSIM are what attention-SRGAN's
    code writes.

    Parameters
    ----------
    step : where the run goes on
    seen : since the last entry; lines of later ones, whose steps it will take again, are dropped
    first : whether this process writes; the others only look on
    """

    def __init__(
        self, folder: Path, step: int, seen: Seen | None = None, *, first: bool = True
    ) -> None:
        self.folder, self.first, self.seen = folder, first, seen or Seen(step)
        self._since = step, time.monotonic()
        if first:
            _drop_after(folder / "log.csv", self.seen.logged)
            self._file = (folder / "log.csv").open("a", newline="")
            self._board = _tensorboard(folder, step)

    def see(self, values: Sequence[Mapping[str, float]]) -> None:
        """Take in the values of steps, whose mean the next entry has."""
        if self.first:
            self.seen.values.extend(values)

    def entry(self, recipe: Recipe, clock: Clock, found: Findings | None) -> None:
        """Write what was seen since the last entry, and what was found on held-out pictures."""
        values = self.seen.values
        means = {name: mean([each[name] for each in values]) for name in values[-1]}
        (before, then), now = self._since, time.monotonic()
        entry: dict[str, float | None] = {
            "step": clock.steps,
            "seconds": round(clock.seconds, 1),
            "samples_per_s": (clock.steps - before) * recipe.data.batch / (now - then),
            "learning_rate": recipe.optimiser.learning_rate * clock.taken,
            "PSNR": found.psnr if found else None,
            "SSIM": found.ssim if found else None,
            **dict.fromkeys(("Loss_D", "Loss_G", "Score_D", "Score_G")),
            **means,
        }
        self._since = clock.steps, now
        self.seen.load_state_dict({"logged": clock.steps, "values": []})
        self._write(entry)
        print(_line(entry, recipe.schedule.iterations, clock.remaining_s), flush=True)
        if found is not None:
            self._show(clock.steps, found.picture)

    def _write(self, entry: Mapping[str, float | None]) -> None:
        writer = csv.DictWriter(self._file, entry, lineterminator="\n")
        if self._file.tell() == 0:
            writer.writeheader()
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in entry.items()})
        self._file.flush()
        if self._board is not None:
            for name, value in entry.items():
                if value is not None:
                    self._board.add_scalar(name, value, entry["step"])

    def _show(self, step: int, picture: Tensor) -> None:
        pixels = from_unit(picture, 8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(self.folder / "held_out.png")
        if self._board is not None:
            self._board.add_image("held out", picture, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.first:
            self._file.close()
            if self._board is not None:
                self._board.close()


def _line(entry: Mapping[str, float | None], iterations: int, remaining_s: float) -> str:
    """An entry for people: how far, how fast, how long still, and the figures that there are."""
    left = datetime.timedelta(seconds=round(remaining_s))
    head = f"{entry['step']:.0f}/{iterations}  {entry['samples_per_s']:.4g} samples/s  {left} left"
    figures = (f"{k} {v:.4g}" for k, v in entry.items() if v is not None and k not in SHOWN_APART)
    return "  ".join((head, *figures))


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    header, *rows = path.read_text().splitlines(keepends=True) or [""]
    kept = [row for row in rows if row.endswith("\n") and _step(row) <= step]
    put(path, "".join((header, *kept) if kept else ()).encode())


def _step(row: str) -> int:
    """The step that a row is of; before all where somebody else wrote it."""
    first = row.partition(",")[0]
    return int(first) if first.isdecimal() else 0


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # of the package tensorboard
    except ImportError:
        return None
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        print("TensorBoard cannot write to a folder whose name is no text; left out", flush=True)
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
