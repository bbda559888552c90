"""The network that a recipe trains, with the weights it starts from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from srpipe import zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.gradients import full_precision
from srpipe.models import MODELS
from srpipe.precision import lower
from srpipe.settings import nearest
from training import recipe

SHAKE = 2.0**-8
"""The largest error of a number in bfloat16, as a share of it."""


def build(model: recipe.Model) -> tuple[nn.Module, str]:
    """The network, and in words what it starts from.

    Raises
    ------
    ConfigError
        If there is no such family, preset or scale, or the weights to start from are of another
        family or nowhere.
    WeightsError
        If the weights to start from are missing, or nothing of them fits.
    """
    if model.family not in MODELS:
        raise ConfigError(f"there is no model {model.family!r}{nearest(model.family, MODELS)}")
    spec = MODELS[model.family]
    if model.preset not in spec.presets:
        raise ConfigError(
            f"{model.family} has no preset {model.preset!r}{nearest(model.preset, spec.presets)}"
        )
    if model.scale not in spec.scales:
        raise ConfigError(
            f"{model.family} enlarges {' or '.join(map(str, spec.scales))} times, not {model.scale}"
        )
    network = spec.build(scale=model.scale, **spec.presets[model.preset])
    told = f"{model.family}-{model.preset}-x{model.scale} from scratch"
    if model.start:
        told = _start(network, model)
    return network.to(memory_format=torch.channels_last), told


def spent_before(model: recipe.Model) -> Mapping[str, Any]:
    """What was spent on the weights that it starts from; nothing where there are none."""
    spent = [card.training.get("spent", {}) for _sign, card in _cards(model)]
    return {"sum": spent} if len(spent) > 1 else dict(*spent)


def _cards(model: recipe.Model) -> list[tuple[int, zoo.Card]]:
    """Those whose weights it starts from, each with its sign."""
    if not model.start:
        return []
    words = terms(model.start)
    signs = [1, *(1 if sign == "+" else -1 for sign in words[1::2])]
    return list(zip(signs, map(_card, words[::2]), strict=True))


def terms(start: str) -> list[str]:
    """The cards in a sum of them, and the signs between."""
    alone = Path(start).is_file()  # whatever its folders are called
    return [start] if alone else re.split(r" ([+-]) ", start)


def _card(name: str) -> zoo.Card:
    if name.endswith(".json"):
        return zoo.Card.read(Path(name))
    shipped = {path.stem: path for path in sorted(zoo.SHIPPED.glob("*.json"))}
    if name not in shipped:
        raise ConfigError(
            f"model.start = {name} is neither a card's path, which ends in .json, nor the stem of"
            f" shipped weights{nearest(name, shipped)}"
        )
    return zoo.Card.read(shipped[name])


def _start(network: nn.Module, model: recipe.Model) -> str:
    """Take from cards' weights what has an equal name and shape; all, of the same network.

    Of another preset a network takes as well what it can grow from, see `_grown`.
    """
    cards = _cards(model)
    state, found = network.state_dict(), _sum(cards)
    card = cards[0][1]
    if card.family != model.family:
        raise ConfigError(
            f"model.start names weights of {card.family}, of which {model.family} has no use; name"
            f" a card of {model.family}, or leave it empty"
        )
    taken = {k: v for k, v in found.items() if k in state and v.shape == state[k].shape}
    same = (card.preset, card.scale) == (model.preset, model.scale)
    grown = {} if card.preset == model.preset else _grown(network, found)
    taken |= grown
    stems = " ".join(f"{'+' if sign > 0 else '-'} {each.stem}" for sign, each in cards)[2:]
    if not taken or (same and len(taken) < len(state)):
        raise WeightsError(
            f"{len(taken)} of the {len(state)} tensors of {model.family}-{model.preset}"
            f"-x{model.scale} have their like in {stems}; start from another card, or from none"
        )
    network.load_state_dict(taken, strict=False)
    share = sum(found[k].numel() for k in taken) / sum(v.numel() for v in state.values())
    wider = f", {len(grown)} of them wider here," if grown else ""
    return (
        f"{len(taken)} of {len(state)} tensors ({share:.0%} of the parameters){wider} from {stems}"
    )


def _grown(network: nn.Module, narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a network takes of a narrower one: the first channels of its parts in ``grows``.

    They see nothing of the further channels at first, so that they are what they were, but for
    what all channels share; the further ones begin at random and see all. After Chen et al. 2016,
    arXiv:1511.05641, which begins them as copies.
    """
    grows = getattr(network, "grows", ())
    grown = {}
    for name, own in network.state_dict().items():
        first = narrow.get(name)
        if first is None or name.partition(".")[0] not in grows or first.shape == own.shape:
            continue
        if first.dim() == own.dim() and all(map(int.__le__, first.shape, own.shape)):
            wide = own.clone()
            if wide.dim() > 1:
                wide[: len(first)] = 0
            wide[tuple(map(slice, first.shape))] = first
            grown[name] = wide
    return grown


def _sum(cards: Sequence[tuple[int, zoo.Card]]) -> dict[str, Tensor]:
    """The weights of one network, or of several of one shape, added up."""
    terms = [(sign, zoo.tensors(card)) for sign, card in cards]
    shapes = [{k: v.shape for k, v in weights.items()} for _sign, weights in terms]
    for (_sign, card), each in zip(cards, shapes, strict=True):
        if each != shapes[0]:
            raise ConfigError(
                f"model.start adds weights of {cards[0][1].stem} and {card.stem}, which are not of"
                " one network; name cards of one family, preset and scale"
            )
    first, *others = terms
    return {
        name: sum((sign * weights[name] for sign, weights in others), tensor)
        for name, tensor in first[1].items()
    }


class Lowered(nn.Module):
    """A network that computes in bfloat16 as its export will, and learns in float32.

    What it computes with is a copy of the network's weights, lowered once a step rather than at
    every layer.

    Parameters
    ----------
    master : the network whose weights are trained
    """

    def __init__(self, master: nn.Module) -> None:
        super().__init__()
        self.inner = lower(master, torch.bfloat16)
        self._learns: list[Tensor] = list(master.parameters())

    def forward(self, low: Tensor, **how: bool) -> Any:
        """What the network gives."""
        with full_precision(low):
            return self.inner(low, **how)

    @torch.no_grad()
    def take(self) -> None:
        """Be what the network has become."""
        own: list[Tensor] = list(self.inner.parameters())
        torch._foreach_copy_(own, self._learns)

    @torch.no_grad()
    def give(self) -> None:
        """Hand the gradients to the network."""
        found, taken = [], []
        for own, learns in zip(self.inner.parameters(), self._learns, strict=True):
            if own.grad is not None:
                learns.grad = torch.empty_like(learns)
                found.append(own.grad)
                taken.append(learns.grad)
        torch._foreach_copy_(taken, found)


def enlarged(network: nn.Module, low: Tensor, *, edges: bool) -> tuple[Tensor, Sequence[Tensor]]:
    """The network's image and, where they are asked for, its gradient maps, coarse to fine."""
    if not edges:
        return network(low), ()
    image, maps = network(low, return_gradient=True)
    return image, (maps,) if isinstance(maps, Tensor) else maps


def enlarged_twice(
    network: nn.Module, low: Tensor, noise: Generator, *, edges: bool
) -> tuple[Tensor, Sequence[Tensor], Tensor]:
    """What `enlarged` gives, and the image once more where every convolution was off by a little.

    Every number that a convolution makes is off by up to `SHAKE` of itself, at random, as where the
    network is computed in bfloat16; but for the three that EAGCL's attention merges into one. Both
    go through the network together.

    Parameters
    ----------
    noise : on the network's device
    """
    with _shaken(network, noise):
        images, maps = enlarged(network, torch.cat((low, low)), edges=edges)
    image, shaken = images.chunk(2)
    return image, [each.chunk(2)[0] for each in maps], shaken


@contextmanager
def _shaken(network: nn.Module, noise: Generator) -> Iterator[None]:
    """The network's convolutions shake the second half of a batch."""

    def shake(_layer: nn.Module, _given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        first, second = made.chunk(2)
        share = torch.empty_like(second).uniform_(-SHAKE, SHAKE, generator=noise)
        return torch.cat((first, torch.addcmul(second, second, share)))

    layers = [
        each for each in network.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)
    ]
    hooks = [layer.register_forward_hook(shake) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
