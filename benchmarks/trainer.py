"""How many samples a second the trainer takes, beside a plain loop over the same pictures.

``python benchmarks/trainer.py FOLDER [--recipe NAME] [--steps N] [--rounds N] [key=value ...]``

The plain loop is that of the papers' code: a data set that decodes a picture, cuts and turns a
square and reduces it with Pillow, workers, float32, Adam, L1. Both train the same network with the
same batches' size. The plain loop runs in a process of its own, whose memory is as it always is.
Rounds are interleaved and the best of each is taken.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from step import timed
from torch.utils.data import DataLoader, Dataset

from srpipe.device import keep_freed_memory
from srpipe.models import MODELS
from training import data
from training.fit import launched
from training.pictures import pictures
from training.recipe import read
from training.step import Parts, step


class Squares(Dataset):
    def __init__(self, paths, patch, scale, count):
        self.paths, self.patch, self.scale, self.count = paths, patch, scale, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = Image.open(random.choice(self.paths)).convert("RGB")
        left, top = (random.randint(0, side - self.patch) for side in image.size)
        high = image.crop((left, top, left + self.patch, top + self.patch))
        if random.random() < 0.5:
            high = high.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < 0.5:
            high = high.transpose(Image.Transpose.ROTATE_90)
        low = high.resize((self.patch // self.scale,) * 2, Image.Resampling.BICUBIC)
        return _tensor(low), _tensor(high)


def _tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def plain(recipe, steps, workers):
    """Samples per second of the plain loop, its workers' start left out."""
    model = recipe.model
    spec = MODELS[model.family]
    network = spec.build(scale=model.scale, **spec.presets[model.preset])
    adam = torch.optim.Adam(network.parameters(), recipe.optimiser.learning_rate)
    count = (steps + 2) * recipe.data.batch
    squares = Squares(pictures(recipe.data.folder), recipe.data.patch, model.scale, count)
    batches = DataLoader(squares, recipe.data.batch, num_workers=workers)
    for number, (low, high) in enumerate(batches):
        if number == 2:
            began = time.perf_counter()
        loss = F.l1_loss(network(low), high)
        adam.zero_grad()
        loss.backward()
        adam.step()
        loss.item()
    return steps * recipe.data.batch / (time.perf_counter() - began)


def ours(recipe, fabric, pairs, steps):
    """Samples per second of the trainer's own steps, its average of weights among them."""
    parts = Parts(recipe, fabric)
    batches = pairs.batches(recipe.data, parts.chance)
    seconds = timed(lambda: step(parts, batches, stop=False), steps, fabric.device)
    return recipe.data.batch / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("change", nargs="*", help="section.key=value")
    parser.add_argument("--recipe", type=Path, default=Path("rdam-lite-x4-fidelity"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_intermixed_args()
    keep_freed_memory()  # as the command does
    apart = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as cache, apart:
        given = [f"data.folder={args.folder}", f"data.cache={cache}", "model.start="]
        recipe = read(args.recipe, [*given, *args.change])
        fabric = launched(recipe)
        pairs, _held = data.load(recipe.data, recipe.model.scale, fabric.device)
        rounds = [
            (
                apart.submit(plain, recipe, args.steps, args.workers).result(),
                ours(recipe, fabric, pairs, args.steps),
            )
            for _ in range(args.rounds)
        ]
    slow, fast = (max(each) for each in zip(*rounds, strict=True))
    print(f"{args.recipe}, batch {recipe.data.batch}, {torch.get_num_threads()} threads")
    print(f"plain loop  {slow:8.2f} samples/s")
    print(f"trainer     {fast:8.2f} samples/s, {fast / slow:.2f} times as many")


if __name__ == "__main__":
    main()
