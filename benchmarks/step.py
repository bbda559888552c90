"""How long a step of a recipe takes, and how much of it is spent in the networks themselves.

``python benchmarks/step.py FOLDER RECIPE... [--steps N] [key=value ...]``

The networks' own part is timed apart: each network's passes forward and backward as a step has
them, with nothing else between them, as one CUDA graph where there is CUDA.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path

import torch

from srpipe.device import keep_freed_memory
from training import data
from training.fit import launched
from training.generator import enlarged
from training.losses import Perceptual
from training.recipe import read
from training.replay import WARM, Replayed
from training.step import Parts, step


def passes(parts, recipe, fabric):
    """A function of a batch that takes it through all networks and back, and does nothing else."""
    critics, seen = parts.critics.values(), parts.objective.networks.values()
    seen = [each for each in seen if isinstance(each, Perceptual)]

    def back(results):
        fabric.backward(torch.stack([each.float().mean() for each in results]).sum())

    def run(low, high):
        image, maps = enlarged(parts.network, low, edges=bool(recipe.losses.gradient_branch))
        ends = [image, *maps]
        for critic in critics:
            critic.bare.requires_grad_(True)
            back([critic.network(critic.sees(high)), critic.network(critic.sees(image.detach()))])
            critic.bare.requires_grad_(False)
        with fabric.autocast():
            for critic in critics:
                if critic.game.relative:
                    critic.bare(critic.sees(high))
                ends.append(critic.bare(critic.sees(image)))
            for network in seen:
                with torch.no_grad():
                    network.embed(high)
                ends.append(network.embed(image))
        back(ends)
        parts.network.zero_grad(set_to_none=True)
        for critic in critics:
            critic.bare.zero_grad(set_to_none=True)

    return run


def timed(function, times, device):
    """Seconds that a call takes, once it is warm."""

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _warm in range(WARM + 2):
        function()
    wait()
    began = time.perf_counter()
    for _ in range(times):
        function()
    wait()
    return (time.perf_counter() - began) / times


def measured(name, folder, cache, changes, steps):
    given = [f"data.folder={folder}", f"data.cache={cache}", "model.start=", *changes]
    recipe = read(Path(name), given)
    fabric = launched(recipe)
    pairs, _held = data.load(recipe.data, recipe.model.scale, fabric.device)
    parts = Parts(recipe, fabric)
    batches = pairs.batches(recipe.data, parts.chance)
    whole = timed(lambda: step(parts, batches, stop=False), steps, fabric.device)
    run, batch = Replayed(passes(parts, recipe, fabric), parts.replays), next(batches)
    own = timed(lambda: run(*batch), steps, fabric.device)
    print(
        f"{name}, batch {recipe.data.batch} of {recipe.data.patch} px: {1000 * whole:.2f} ms a"
        f" step, {recipe.data.batch / whole:.1f} samples/s; {1000 * own:.2f} ms of it"
        f" ({own / whole:.0%}) in the networks",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", nargs="+", help="recipes, then section.key=value")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_intermixed_args()
    keep_freed_memory()  # as the command does
    changes = [each for each in args.recipe if "=" in each]
    with tempfile.TemporaryDirectory() as cache:
        for name in (each for each in args.recipe if "=" not in each):
            measured(name, args.folder, cache, changes, args.steps)
            gc.collect()


if __name__ == "__main__":
    main()
