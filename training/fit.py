"""Train a generator after a recipe: ``python -m training.fit RECIPE [section.key=value ...]``.

One loop, read from top to bottom. The learning rate and the end are functions of how much of the
run is over, in iterations or in seconds, so a run that is cut short by its time budget still ends
annealed. A run folder that holds a checkpoint is gone on with.
"""

import argparse
import csv
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from srpipe import zoo
from srpipe.errors import ConfigError, DeviceError, SrpipeError
from srpipe.gradients import gradient_map
from srpipe.metrics import luma, mean, psnr
from srpipe.models import MODELS
from srpipe.pixels import from_unit, to_unit
from training import checkpoint
from training.data import Pairs, held_out, pictures, read_image
from training.degrade import as_tensor, bicubic, cropped
from training.discriminators import VGGCritic
from training.export import export
from training.losses import LOSSES, Perceptual, l1, relativistic
from training.recipe import Recipe, read, to_dict

FREE = frozenset(
    {
        "time_budget_s",
        "log_every",
        "validate_every_s",
        "checkpoint_every_s",
        "folder",
        "about",
        "vgg",
    }
)
"""What of a recipe may change when a run goes on: nothing that an iteration depends on."""


def fit(recipe: Recipe, folder: Path) -> Path:
    """Train, then export the averaged weights with their card; the card's path comes back.

    Raises
    ------
    ConfigError
        If the recipe asks for what does not exist, or the folder holds a run of another recipe.
    DeviceError
        If a loss is not finite; the loss is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.run.seed)
    fabric = Fabric(accelerator="auto", devices=1, precision=_precision(recipe.run.precision))
    fabric.launch()
    pairs, held = _pairs(recipe, fabric.device)
    trainer = Trainer(recipe, fabric)
    state = folder / "state.pt"
    if state.exists():
        trainer.restore(checkpoint.load(state))
    batches = pairs.batches(recipe.data.batch, recipe.data.patch, trainer.generator)
    saved = validated = time.monotonic()
    with _log(folder / "log.csv") as log, _stopped() as stopped:
        while trainer.progress() < 1 and not stopped:
            losses = trainer.step(*next(batches))
            if trainer.steps % recipe.run.log_every == 0:
                log(trainer.entry(losses))
            if time.monotonic() - validated > recipe.run.validate_every_s:
                print(f"held out: PSNR-Y {trainer.validate(held):.2f} dB", flush=True)
                validated = time.monotonic()
            if time.monotonic() - saved > recipe.run.checkpoint_every_s:
                checkpoint.save(trainer.state(), state)
                saved = time.monotonic()
    checkpoint.save(trainer.state(), state)
    if trainer.progress() < 1:
        raise KeyboardInterrupt
    spent = {
        "steps": trainer.steps,
        "seconds": round(trainer.seconds),
        "images": len(pairs.high.starts),
        "device": torch.cuda.get_device_name() if fabric.device.type == "cuda" else "CPU",
        "held_out_psnr_y": round(trainer.validate(held), 3),
    }
    samples = [(as_tensor(bicubic(image, recipe.model.scale)), as_tensor(image)) for image in held]
    return export(recipe, trainer.average.state, spent, samples, folder)


class Trainer:
    """What a step changes: the networks, their optimisers and averages, and the run's clock."""

    def __init__(self, recipe: Recipe, fabric: Fabric) -> None:
        self.recipe, self.fabric = recipe, fabric
        self.steps, self.seconds = 0, 0.0
        self._tick = time.monotonic()
        self.generator = torch.Generator().manual_seed(recipe.run.seed)
        opt = recipe.optimiser
        self.bare = _network(recipe)
        adam = torch.optim.Adam(self.bare.parameters(), opt.learning_rate, opt.betas, fused=True)
        self.network, self.adam = fabric.setup(self.bare, adam)
        self.average = checkpoint.Average(self.bare, recipe.run.ema)
        self.critic: Any = None
        if recipe.losses.adversarial:
            bare = VGGCritic(recipe.data.patch, width=opt.critic_width)
            bare = bare.to(memory_format=torch.channels_last)
            rate = torch.optim.Adam(bare.parameters(), opt.critic_rate, opt.betas, fused=True)
            self.critic, self.critic_adam = fabric.setup(bare, rate)
        self.perceptual: Any = None
        if recipe.losses.perceptual:
            self.perceptual = fabric.setup_module(Perceptual(recipe.losses.vgg))

    def progress(self) -> float:
        """How much of the run is over, 0 to 1: the larger of its iterations and its time."""
        schedule = self.recipe.schedule
        spent = self.seconds / schedule.time_budget_s if schedule.time_budget_s else 0.0
        return max(self.steps / schedule.iterations, spent)

    def step(self, low: Tensor, high: Tensor) -> dict[str, Tensor]:
        """One step of the generator, and of the critic where there is one; the losses by name."""
        self._set_rates()
        image, edges = self.network(low, return_gradient=True)
        losses = self._losses(image, edges, high)
        total = torch.stack(list(losses.values())).sum()
        self.adam.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        self.fabric.clip_gradients(
            self.network, self.adam, max_norm=self.recipe.optimiser.clip, error_if_nonfinite=False
        )
        self.adam.step()
        if self.critic is not None:
            losses |= self._step_critic(image.detach(), high)
        self.steps += 1
        self.average.update(self.bare, self.steps)
        now = time.monotonic()
        self.seconds, self._tick = self.seconds + now - self._tick, now
        return losses

    def _losses(self, image: Tensor, edges: Tensor, high: Tensor) -> dict[str, Tensor]:
        weights = self.recipe.losses
        losses = {
            name: getattr(weights, name) * loss(image, high)
            for name, loss in LOSSES.items()
            if getattr(weights, name)
        }
        if weights.gradient_branch:
            losses["gradient_branch"] = weights.gradient_branch * l1(edges, gradient_map(high))
        if self.perceptual is not None:
            losses["perceptual"] = weights.perceptual * self.perceptual(image, high)
        if self.critic is not None:
            self.critic.requires_grad_(False)
            with torch.no_grad():
                real = self.critic(high)
            losses["adversarial"] = weights.adversarial * relativistic(self.critic(image), real)
        return losses

    def _step_critic(self, fake: Tensor, high: Tensor) -> dict[str, Tensor]:
        self.critic.requires_grad_(True)
        loss = relativistic(self.critic(high), self.critic(fake))
        self.critic_adam.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.critic_adam.step()
        return {"critic": loss}

    def _set_rates(self) -> None:
        schedule, opt = self.recipe.schedule, self.recipe.optimiser
        share = min(1.0, (self.steps + 1) / max(1, schedule.warmup))
        if schedule.halve_every:
            share *= 0.5 ** (self.steps // schedule.halve_every)
        else:
            share *= 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress())))
        self.adam.param_groups[0]["lr"] = opt.learning_rate * share
        if self.critic is not None:
            self.critic_adam.param_groups[0]["lr"] = opt.critic_rate * share

    def entry(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """A line of the log; where a loss is not finite, an error that names it."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DeviceError(
                f"the loss {broken[0]} is not finite at step {self.steps}; go on from the last"
                " checkpoint with a smaller learning rate"
            )
        rate = self.adam.param_groups[0]["lr"]
        speed = self.steps * self.recipe.data.batch / self.seconds
        return {
            "step": self.steps,
            "seconds": round(self.seconds, 1),
            "learning_rate": rate,
            "samples_per_s": round(speed, 1),
            **{name: round(value, 6) for name, value in values.items()},
        }

    @torch.inference_mode()
    def validate(self, held: list[Tensor]) -> float:
        """Mean PSNR-Y, in dB, of the averaged weights on held-out images."""
        scale = self.recipe.model.scale
        network = _network(self.recipe).to(self.fabric.device).eval()
        network.load_state_dict(self.average.state)
        found = []
        for image in held:
            low = as_tensor(bicubic(image, scale)).to(self.fabric.device)
            high = as_tensor(image).to(self.fabric.device)
            out = to_unit(from_unit(network(low), 8), 8)
            inner = (..., slice(scale, -scale), slice(scale, -scale))
            found.append(float(psnr(luma(out)[inner], luma(high)[inner])))
        self._tick = time.monotonic()
        return mean(found)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        state = {
            "recipe": to_dict(self.recipe),
            "steps": self.steps,
            "seconds": self.seconds,
            "network": self.bare.state_dict(),
            "adam": self.adam.state_dict(),
            "average": self.average.state,
            "generator": self.generator.get_state(),
        }
        if self.critic is not None:
            state["critic"] = self.critic.state_dict()
            state["critic_adam"] = self.critic_adam.state_dict()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same recipe."""
        checkpoint.same_recipe(state["recipe"], to_dict(self.recipe), FREE)
        self.steps, self.seconds = state["steps"], state["seconds"]
        self.bare.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
        self.average.state = {k: v.to(self.fabric.device) for k, v in state["average"].items()}
        self.generator.set_state(state["generator"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic_adam.load_state_dict(state["critic_adam"])


def _network(recipe: Recipe) -> nn.Module:
    model = recipe.model
    if model.family not in MODELS or model.preset not in MODELS[model.family].presets:
        raise ConfigError(
            f"there is no {model.preset} preset of a model {model.family!r}; there are"
            f" {', '.join(f'{p} of {name}' for name, s in MODELS.items() for p in s.presets)}"
        )
    spec = MODELS[model.family]
    network = spec.build(scale=model.scale, **spec.presets[model.preset])
    if model.start:
        network.load_state_dict(zoo.tensors(_start(model.start)))
    return network.to(memory_format=torch.channels_last)


def _start(name: str) -> zoo.Card:
    path = Path(name)
    return zoo.Card.read(path if path.suffix == ".json" else zoo.SHIPPED / f"{name}.json")


def _pairs(recipe: Recipe, device: torch.device) -> tuple[Pairs, list[Tensor]]:
    """Training pairs on the device, and up to eight held-out images of at most 512 px a side."""
    scale, share = recipe.model.scale, recipe.data.holdout
    paths = pictures(recipe.data.folder)
    train = [read_image(path) for path in paths if not held_out(path, share)]
    apart = [path for path in paths if held_out(path, share)][:8]
    if not (train and apart):
        raise ConfigError(
            f"a holdout of {share} leaves {len(train)} pictures to train on and {len(apart)} to"
            " validate with; both need one: change data.holdout or add pictures"
        )
    held = [cropped(read_image(path)[:512, :512], scale) for path in apart]
    return Pairs.of(train, scale).to(device), held


def _precision(name: str) -> Any:
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bf16-mixed"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


@contextmanager
def _log(path: Path) -> Iterator[Any]:
    """A function that adds a line to a CSV file and shows it."""
    with path.open("a", newline="") as file:

        def write(entry: dict[str, float]) -> None:
            writer = csv.DictWriter(file, entry)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(entry)
            file.flush()
            print("  ".join(f"{k} {v:.6g}" for k, v in entry.items()), flush=True)

        yield write


@contextmanager
def _stopped() -> Iterator[list[int]]:
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


def main(argv: list[str] | None = None) -> int:
    """Read the command line, train, and say where the weights are."""
    parser = argparse.ArgumentParser(prog="python -m training.fit", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe's path, or the name of a shipped one")
    parser.add_argument("change", nargs="*", help="section.key=value, instead of the recipe's")
    parser.add_argument("--run", type=Path, help="the run's folder (default: runs/RECIPE)")
    args = parser.parse_args(argv)
    try:
        recipe = read(args.recipe, args.change)
        card = fit(recipe, args.run or Path("runs") / args.recipe.stem)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    except SrpipeError as error:
        print(f"training.fit: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"weights and card: {card}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
