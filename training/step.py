"""One step of a run: the networks, their optimisers, and what is done to them."""

import copy
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from srpipe.errors import ConfigError, DeviceError
from srpipe.models import MODELS
from training import checkpoint
from training.clock import Clock
from training.critics import critics
from training.generator import Lowered, build, enlarged, enlarged_twice
from training.objective import Objective
from training.optimiser import adam, set_rate
from training.recipe import Recipe
from training.replay import Readings, Replayed, Replays, sent
from training.validate import Findings, validate


class Parts:
    """The networks of a run, their optimisers, and what else a step changes or needs."""

    def __init__(self, recipe: Recipe, fabric: Fabric) -> None:
        torch.manual_seed(recipe.run.seed)  # of fresh weights; the rest draws from `chance` alone
        self.recipe, self.fabric, opt = recipe, fabric, recipe.optimiser
        self.bare, self.told = build(recipe.model)
        self.scale, self.edges = recipe.model.scale, MODELS[recipe.model.family].gradient
        if recipe.losses.gradient_branch and not self.edges:
            raise ConfigError(
                f"{recipe.model.family} predicts no gradient maps; set losses.gradient_branch = 0"
            )
        self.bare.to(fabric.device)
        low = precision_of(fabric) == "bf16-mixed"
        self.lowered = Lowered(self.bare) if low else None
        self.network = fabric.setup_module(self.lowered or self.bare)
        kind = MODELS[recipe.model.family].compiled
        compiles = fabric.device.type == "cuda" and find_spec("triton") is not None
        if kind is not None and compiles and not recipe.losses.steady:
            _compile(self.network, kind)
        own: Any = adam(self.bare, opt.learning_rate, opt.betas, fabric.device)
        self.readings, self.late = Readings(), reads_late(fabric)
        self.names: Sequence[str] = ()  # of what a step finds
        self.unsound = torch.zeros((), device=fabric.device)  # 1: what a step found is not finite
        if self.late:
            own.found_inf = self.unsound  # with which Adam does not take the step
        self.adam: Any
        self.adam = fabric.setup_optimizers(own)
        self.average = checkpoint.Average(self.bare, recipe.run.ema)
        self.judged = copy.deepcopy(self.bare).requires_grad_(False).eval()
        self.objective = Objective(recipe.losses, recipe.model.scale, fabric)
        self.critics = critics(recipe, fabric)
        self.clock = Clock(recipe.schedule)
        self.chance = checkpoint.Chance()
        self.chance.manual_seed(recipe.run.seed)
        self.noise = Generator(fabric.device)
        self.replays = Replays(fabric.device, wanted=fabric.world_size == 1)
        self.teach = Replayed(self._teach_alone, self.replays)
        self.learn = Replayed(self._learn, self.replays, [self.noise])
        self.move = Replayed(self.adam.step, self.replays)

    def kept(self) -> dict[str, checkpoint.Part]:
        """Everything that the next step depends on."""
        return {
            "network": self.bare,
            "adam": self.adam,
            "average": self.average,
            "clock": self.clock,
            "chance": self.chance,
            **self.critics,
        }

    def validate(self, held: Sequence[tuple[Tensor, Tensor]]) -> Findings:
        """How good the averaged weights are on images that are held out."""
        self.judged.load_state_dict(self.average.state)
        return validate(self.judged, held, self.scale, edges=self.edges)

    def shares(self) -> list[Tensor]:
        """For each critic, where between real and enlarged images its slope is penalised."""
        mine = slice(self.fabric.global_rank, None, self.fabric.world_size)
        drawn = (
            torch.rand(self.recipe.data.batch, 1, 1, 1, generator=self.chance)
            for _critic in self.critics
        )
        return [sent(each[mine], self.fabric.device) for each in drawn]

    def _teach_alone(self, low: Tensor, high: Tensor, *shares: Tensor) -> None:
        """One step of every critic, and none of the generator."""
        if self.lowered is not None:
            self.lowered.take()
        with torch.no_grad():
            image, _maps = enlarged(self.network, low, edges=False)
        self._teach(image, high, shares)

    def _teach(self, fake: Tensor, real: Tensor, shares: Sequence[Tensor]) -> dict[str, Tensor]:
        """The critics' losses together, and the scores that the first one gives."""
        found: dict[str, Tensor] = {}
        for critic, share in zip(self.critics.values(), shares, strict=True):
            loss, score_real, score_fake = critic.learn(real, fake, share)
            found["Loss_D"] = found.get("Loss_D", torch.zeros_like(loss)) + loss
            found.setdefault("Score_D", score_real)
            found.setdefault("Score_G", score_fake)
        return found

    def _learn(self, low: Tensor, high: Tensor, *shares: Tensor) -> Tensor:
        """One step of the critics, and the generator's gradient; losses and scores, see `names`."""
        weights, shaken = self.recipe.losses, None
        edges = bool(weights.gradient_branch)
        if self.lowered is not None:
            self.lowered.take()
        if weights.steady:
            image, maps, shaken = enlarged_twice(self.network, low, self.noise, edges=edges)
        else:
            image, maps = enlarged(self.network, low, edges=edges)
        taught = self._teach(image, high, shares)
        own = self.objective.terms(image, maps, high, self.noise, shaken)
        judged = {
            name: getattr(weights, name) * critic.judge(high, image)
            for name, critic in self.critics.items()
        }
        loss = torch.stack([*own.values(), *judged.values()]).sum()
        self.network.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.lowered is not None:
            self.lowered.give()
        clip = self.recipe.optimiser.clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.bare.parameters(), clip)
        found = own | taught | judged | {"Loss_G": loss, "gradient": norm}
        self.names = list(found)
        values = torch.stack([value.detach().float() for value in found.values()])
        self.unsound.copy_(~values.isfinite().all())
        return values


def step(
    parts: Parts, batches: Iterator[tuple[Tensor, Tensor]], *, stop: bool
) -> list[dict[str, float]]:
    """One step of the critics and one of the generator.

    Losses and scores by their names come back: those of this step, or on a single CUDA card of the
    one before, of which there is none the first time; see `rest`.

    Raises
    ------
    DeviceError
        If a loss or the gradient is not finite. The generator has not taken that step then.
    """
    recipe, clock = parts.recipe, parts.clock
    set_rate(parts.adam, recipe.optimiser.learning_rate * clock.share)
    for critic in parts.critics.values():
        set_rate(critic.adam, recipe.critic.learning_rate * clock.share)
    if parts.critics:
        for _extra in range(recipe.critic.steps - 1):
            parts.teach(*next(batches), *parts.shares())
    low, high = next(batches)
    if recipe.losses.steady or recipe.losses.corners > 1:
        parts.noise.manual_seed(int(torch.randint(2**62, (), generator=parts.chance)))
    found = parts.learn(low, high, *parts.shares())
    mean: Any = parts.fabric.all_reduce(found, reduce_op="mean")
    lap, stopped = _agreed(parts.fabric, clock.lap(), stop=stop)
    clock.advance(lap, stop=stopped)
    parts.readings.put(clock.steps, parts.names, mean)
    told = rest(parts, keep=int(parts.late))
    parts.move()
    parts.average.update(clock.steps)
    return told


def rest(parts: Parts, keep: int = 0) -> list[dict[str, float]]:
    """What steps but the last ``keep`` found, where not read yet; raises what `step` does."""
    found = []
    for number, values in parts.readings.take(keep):
        for name, value in values.items():
            if not math.isfinite(value):
                what = "gradient" if name == "gradient" else f"loss {name}"
                raise DeviceError(
                    f"the {what} is not finite at step {number}; choose another run folder and a"
                    " smaller optimiser.learning_rate"
                )
        found.append(values)
    return found


def precision_of(fabric: Fabric) -> str:
    """As Fabric names it, where a recipe may say "auto"."""
    return str(fabric.strategy.precision.precision)


def _compile(network: nn.Module, kind: type[nn.Module]) -> None:
    """Have a network's parts of a kind compiled when they are first used: once for all of them.

    Not for the loss `steady`, whose hooks of their own would have them compiled at every step.
    """
    for part in network.modules():
        if isinstance(part, kind):
            part.compile(dynamic=False)


def reads_late(fabric: Fabric) -> bool:
    """Whether the host gets a step ready while the device is at the one before."""
    return fabric.device.type == "cuda" and fabric.world_size == 1


def _agreed(fabric: Fabric, lap: float, *, stop: bool) -> tuple[float, bool]:
    """How long a step took, and whether it is the last for now, for all devices alike."""
    if fabric.world_size == 1:
        return lap, stop
    own = torch.tensor([lap, float(stop)], device=fabric.device)
    mean: Any = fabric.all_reduce(own, reduce_op="mean")
    lap, stopped = mean.tolist()
    return lap, stopped > 0
