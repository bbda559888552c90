"""Train a generator after a recipe: ``python -m training.fit RECIPE [section.key=value ...]``.

One loop, read from top to bottom. The learning rate and the end are functions of how much of the
run is over, in iterations or in seconds, so a run that is cut short by its time budget still ends
annealed. A run folder that holds a checkpoint is gone on with, to the same bits.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities import rank_zero_only
from torch import Generator, Tensor

from srpipe.device import devices, keep_freed_memory, memory_told
from srpipe.errors import ConfigError, SrpipeError
from srpipe.lock import taken
from srpipe.precision import best
from srpipe.show import take_any_name
from training import checkpoint, data
from training.clock import Every
from training.export import export
from training.generator import spent_before
from training.recipe import Recipe, read, to_dict
from training.step import Parts, precision_of, rest, step
from training.watch import Seen, Watch

FREE = frozenset(
    {
        "data.about",
        "data.cache",
        "data.folder",
        "losses.lpips_backbone",
        "losses.vgg",
        "run.checkpoint_every_s",
        "run.devices",
        "run.log_every",
        "run.validate_every_s",
        "schedule.time_budget_s",
    }
)
"""What of a recipe may change when a run goes on: nothing that an iteration depends on."""


class Mixed(MixedPrecision):
    """Fabric's, but that networks are given pixels in full, as they are when they enlarge.

    Fabric's own rounds them to bfloat16, by up to half a level of 8 bits, and with them the bicubic
    image that a network adds to.
    """

    def convert_input(self, data: Any) -> Any:
        """What it is given."""
        return data


CENTRED = 64
"""Squares that the mean colour is corrected by, at least."""

FIRST_PASS = timedelta(days=1)
"""How long processes wait at most for the first one, which reads the pictures."""


def fit(recipe: Recipe, folder: Path) -> Path | None:
    """Train, then export the averaged weights with their card.

    With several devices, every one runs this in a process of its own.

    Returns
    -------
    The card's path; None in all processes but the first.

    Raises
    ------
    ConfigError
        If the recipe asks for what does not exist, or the folder holds a run of another recipe.
    DeviceError
        If a loss or a gradient is not finite; it is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fabric = launched(recipe)
    state = folder / "state.pt"
    begun = state.exists()  # then nothing of `model.start` is needed, nor may be there any more
    parts = Parts(_unstarted(recipe) if begun else recipe, fabric)
    clock, before = parts.clock, checkpoint.Facts()
    with _first_first(fabric):
        tell = partial(fabric.print, flush=True)
        pairs, held = data.load(recipe.data, recipe.model.scale, fabric.device, tell)
    kept = {**parts.kept(), "data": pairs, "before": before, "seen": (seen := Seen())}
    if begun:
        checkpoint.restore(state, to_dict(recipe), kept, FREE)
    before.update(before or spent_before(recipe.model))
    told = f"{recipe.model.stem} after {clock.steps} steps" if begun else parts.told
    batches = pairs.batches(
        recipe.data, parts.chance, rank=fabric.global_rank, of=fabric.world_size
    )
    fabric.print(f"{told}; {_where(fabric)}, {precision_of(fabric)}; {_counted(pairs)}", flush=True)
    validating = Every(recipe.run.validate_every_s)
    saving = Every(recipe.run.checkpoint_every_s)
    clock.lap()  # the time budget is for what comes now
    first = fabric.is_global_zero
    with Watch(folder, clock.steps, seen, first=first) as watch, _stopping() as asked:
        while not clock.over:
            watch.see(step(parts, batches, stop=bool(asked)))
            if not first:
                continue
            logs = clock.over or clock.steps % recipe.run.log_every == 0
            saves = saving() or clock.over
            if logs or saves:
                watch.see(rest(parts))
            if logs:
                if done := clock.progress == 1 or validating():
                    # first, so that a validation that fails loses no step
                    checkpoint.save(state, to_dict(recipe), kept)
                watch.entry(recipe, clock, parts.validate(held) if done else None)
            if saves:
                checkpoint.save(state, to_dict(recipe), kept)
    if clock.progress < 1:
        fabric.barrier()  # the first process is ended with others, and has to save yet
        raise KeyboardInterrupt
    if not first:
        return None
    spent = _spent(parts, len(pairs.high)) | ({"before": dict(before)} if before else {})
    samples = [(low.to(fabric.device), high.to(fabric.device)) for low, high in held]
    return export(recipe, parts.average.state, spent, samples, _trained(recipe, pairs), folder)


def _unstarted(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, start=""))


def _trained(recipe: Recipe, pairs: data.Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Squares that are the same for any run, in batches."""
    batches = pairs.batches(recipe.data, Generator().manual_seed(0))
    return islice(batches, math.ceil(CENTRED / recipe.data.batch))


def _spent(parts: Parts, images: int) -> dict[str, Any]:
    """What this run took, for the card."""
    clock, fabric = parts.clock, parts.fabric
    return {
        "steps": clock.steps,
        "seconds": round(clock.seconds),
        "images": images,
        "device": _where(fabric),
        "precision": precision_of(fabric),
    }


def launched(recipe: Recipe) -> Fabric:
    """The devices that a recipe asks for; for several, other processes are begun."""
    run = recipe.run
    device = torch.device(devices()[0])
    precision: Any = run.precision
    if precision == "auto":
        precision = "bf16-mixed" if best(device, ("fp32", "bf16")) == "bf16" else "32-true"
    # The last layers of a gradient branch that no loss asks for get no gradient.
    unused = not recipe.losses.gradient_branch
    strategy = DDPStrategy(
        broadcast_buffers=False, find_unused_parameters=unused, timeout=FIRST_PASS
    )
    fabric = Fabric(
        accelerator=device.type,
        devices=run.devices,
        strategy=strategy if run.devices > 1 else "auto",
        plugins=Precision() if precision == "32-true" else Mixed(precision, device.type),
    )
    fabric.launch()
    return fabric


@contextmanager
def _first_first(fabric: Fabric) -> Iterator[None]:
    """The first process before the others; where it fails they follow, and fail by themselves."""
    if not fabric.is_global_zero:
        fabric.barrier()
    try:
        yield
    finally:
        if fabric.is_global_zero:
            fabric.barrier()


def _counted(pairs: data.Pairs) -> str:
    count = f"{len(pairs.high)} pictures"
    without = f" without {pairs.left_out} copies of held-out ones"
    return count + without if pairs.left_out else count


def _where(fabric: Fabric) -> str:
    name = torch.cuda.get_device_name() if fabric.device.type == "cuda" else "CPU"
    return name if fabric.world_size == 1 else f"{fabric.world_size} x {name}"


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that a signal to stop makes non-empty, so that the run ends after its step."""
    got: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: got.append(number))
        for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield got
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lets go of it if this one is killed.

    Raises
    ------
    ConfigError
        If another one is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        # processes that have a rank are the first one's, which holds it
        if not ("LOCAL_RANK" in os.environ or taken(file.fileno())):
            raise ConfigError(
                f"another run is at work in {folder}; wait for its end, or give --run another"
                " folder"
            )
        yield


@rank_zero_only
def _say(text: str) -> None:
    """In the first process alone: the others would say the same."""
    print(text, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Read the command line, train, and say where the weights are."""
    parser = argparse.ArgumentParser(prog="python -m training.fit", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe's path, or the name of a shipped one")
    parser.add_argument("change", nargs="*", help="section.key=value, instead of the recipe's")
    parser.add_argument("--run", type=Path, help="the run's folder (default: runs/RECIPE)")
    args = parser.parse_intermixed_args(argv)
    take_any_name()
    keep_freed_memory()  # every step needs what the one before it has left
    try:
        recipe = read(args.recipe, args.change)
        folder = args.run or Path("runs") / args.recipe.stem
        size = f"data.batch = {recipe.data.batch} and data.patch = {recipe.data.patch}"
        with _alone(folder), memory_told(f"a run with {size}"):
            card = fit(recipe, folder)
    except KeyboardInterrupt:
        _say("stopped; the same command goes on")
        return 130
    except SrpipeError as error:
        _say(f"training.fit: error: {error}")
        return error.exit_code
    except OSError as error:
        print(f"training.fit: error: {error}; make room or name another folder", file=sys.stderr)
        return 1
    if card is not None:
        print(f"weights and card: {card}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
