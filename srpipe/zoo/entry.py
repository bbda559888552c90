"""Find a network by its name or by a file, and build it with its weights."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from srpipe.errors import ConfigError, WeightsError
from srpipe.models import MODELS
from srpipe.models.community import HALO, Community, reach
from srpipe.settings import nearest
from srpipe.zoo.checkpoint import SUFFIXES, read, sha256
from srpipe.zoo.store import STAGES, Card, cards, ending, is_card, network_name, tensors

PRESETS = ("lite", "paper")
"""A family's name alone means the first of these that has weights: what is fast on any device."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network that has weights: one of ours, of one stage or of both, or one from a file.

    Parameters
    ----------
    model : what `find` finds it by
    name : ``eagcl-lite-x4``; where others trained it, its file's name without the ending
    scale : output pixels per input pixel, along each side
    parameters : how many numbers it holds
    halo : radius that tiles must see around themselves, in input pixels
    exact : whether that is the whole receptive radius
    alignment : what tile starts must be multiples of
    precisions : those in which all its weights serve
    files : file name to sha256
    cards : by stage; none where others trained it
    about : what else is known of it where others trained it
    """

    model: str
    name: str
    scale: int
    parameters: int
    halo: int
    exact: bool
    alignment: int
    precisions: tuple[str, ...]
    files: Mapping[str, str]
    cards: Mapping[str, Card] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def card(self) -> Card:
        """The first stage's card."""
        return next(iter(self.cards.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called, shortest first; `find` may know another by a short name."""
        if not self.cards:
            return (self.model,)
        card, end = self.card, ending(self.card.source)
        return f"{card.family}{end}", f"{card.family}-{card.preset}{end}", card.name

    @property
    def stages(self) -> tuple[str, ...]:
        """Which of `STAGES` have weights."""
        return tuple(self.cards)

    def dial(self, perception: float | None) -> float | None:
        """Where the dial stands when this is asked for; None is 1 where there are such weights.

        Without stages there is no dial, and no place on it.

        Raises
        ------
        ConfigError
            If a stage that it takes has no weights.
        """
        if not self.stages:
            if perception is not None:
                raise ConfigError(
                    f"{self.name} has no dial, for it has one set of weights; leave --perception"
                    " out"
                )
            return None
        if perception is None:
            return float("perception" in self.stages)
        if not 0 <= perception <= 1:
            raise ConfigError(f"the dial goes from 0 to 1, and {perception:g} is not on it")
        shares = zip(STAGES, (1 - perception, perception), strict=True)
        missing = [stage for stage, share in shares if share > 0 and stage not in self.stages]
        if missing:
            raise ConfigError(
                f"{self.name} has no {missing[0]} weights; use --perception"
                f" {0 if missing[0] == 'perception' else 1}"
            )
        return perception


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, in float32 on the CPU.

    Parameters
    ----------
    perception : 0 for the fidelity weights, 1 for the perception weights, in between for both;
        None where there are no such stages
    """

    network: nn.Module
    entry: Entry
    perception: float | None

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.entry.scale

    @property
    def halo(self) -> int:
        """Radius that tiles must see around themselves, in input pixels."""
        return self.entry.halo

    @property
    def exact(self) -> bool:
        """Whether the halo is the whole receptive radius."""
        return self.entry.exact

    @property
    def alignment(self) -> int:
        """What tile starts must be multiples of."""
        return self.entry.alignment

    @property
    def precisions(self) -> tuple[str, ...]:
        """In which the weights that it is made of serve."""
        shares = zip(STAGES, (1 - (self.perception or 0), self.perception or 0), strict=True)
        cards = [self.entry.cards[stage] for stage, share in shares if share and self.entry.cards]
        return _common([card.precisions for card in cards] or [self.entry.precisions])


def entries(folder: Path | None = None) -> list[Entry]:
    """Every network that has weights in a folder, or in the package."""
    by_name: dict[str, dict[str, Card]] = {}
    for card in cards(folder):
        by_name.setdefault(card.name, {})[card.stage] = card
    return [_of_cards(name, stages) for name, stages in by_name.items()]


def scales(name: str, *, folder: Path | None = None) -> tuple[int, ...]:
    """How many times the networks that a name means enlarge, ascending.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    return tuple(sorted({entry.scale for entry in _named(name, folder)}))


def find(name: str, *, scale: float | None = None, folder: Path | None = None) -> Entry:
    """The network that a name means: ``eagcl``, ``eagcl-lite`` or ``eagcl-lite-x4``.

    A family's name alone means its first preset, and a missing scale its first scale, that has
    weights. A name may also be a file: a card, weights beside their card, or the weights of any
    network that spandrel knows.

    Raises
    ------
    ConfigError
        If there is no such network, or not at this scale.
    WeightsError
        If a file cannot be read as weights.
    """
    found = _named(name, folder)
    fitting = [entry for entry in found if scale in (None, entry.scale)]
    if not fitting:
        known = " or ".join(map(str, scales(name, folder=folder)))
        raise ConfigError(f"{name} enlarges {known} times, not {scale:g}; use --scale {known}")
    return min(fitting, key=_order)


def shortest(entry: Entry) -> str:
    """The least that one has to type for a network."""
    if is_file(entry.model):
        return entry.model
    folder = entry.card.folder
    return next(name for name in entry.names if find(name, folder=folder).name == entry.name)


def called(entry: Entry) -> str:
    """A network's name without its scale."""
    return entry.names[1] if entry.cards else entry.name.removesuffix(f"-x{entry.scale}")


def made_for(source: str, entry: Entry) -> Entry | None:
    """A network of equal scale for another source: the same one if it has weights for that."""
    if is_file(entry.model) or entry.card.source == source:
        return None
    card = entry.card
    same = network_name(card.family, card.preset, card.scale, source)
    known = [each for each in entries(card.folder) if each.card.source == source]
    fitting = [each for each in known if each.scale == entry.scale]
    return next((each for each in fitting if each.name == same), fitting[0] if fitting else None)


def load(
    name: str,
    *,
    scale: float | None = None,
    perception: float | None = None,
    folder: Path | None = None,
) -> Loaded:
    """Find a network, check its weights and build it.

    Parameters
    ----------
    perception : between 0, the fidelity weights, and 1, the perception weights: every number is
        interpolated (Wang et al. 2018, arXiv:1811.10515); None is 1 where there are such weights

    Raises
    ------
    ConfigError
        If there is no such network, or it was not trained for the stage that was asked for.
    WeightsError
        If a file is missing or its hash is not the card's.
    """
    entry = find(name, scale=scale, folder=folder)
    perception = entry.dial(perception)
    if perception is None:
        network: nn.Module = Community(read(Path(entry.model)), entry.model)
    else:
        network = _built(entry, perception)
    return Loaded(network.eval().requires_grad_(False), entry, perception)


def _common(precisions: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(each for each in precisions[0] if all(each in other for other in precisions))


def is_file(name: str) -> bool:
    """Whether a model's name is meant as a file."""
    return "/" in name or Path(name).suffix.lower() in (*SUFFIXES, ".json")


def _named(name: str, folder: Path | None) -> list[Entry]:
    if is_file(name):
        return [_in_file(Path(name).absolute())]
    known = entries(folder)
    found = [entry for entry in known if name in entry.names]
    if not found:
        names = sorted({each for entry in known for each in entry.names})
        hint = nearest(name, names) if names else "; no weights are installed"
        raise ConfigError(f"there is no model {name!r}{hint}")
    return found


def _in_file(path: Path) -> Entry:
    card = _card_of(path)
    if card is not None:
        return _of_cards(str(path), {card.stage: card})
    try:
        facts = path.stat()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror})") from error
    return _of_others(path, facts.st_size, facts.st_mtime_ns)


def _card_of(path: Path) -> Card | None:
    """The card that a file is, or that lies beside it and speaks of it."""
    if path.suffix.lower() == ".json":
        return Card.read(path)
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    beside = path.with_name(f"{stem}.json")
    if path.suffix.lower() != ".safetensors" or not is_card(beside):
        return None
    card = Card.read(beside)
    if path.name not in card.files:
        raise WeightsError(f"{beside} is the card of {', '.join(card.files)}, not of {path.name}")
    return card


def _of_cards(model: str, stages: Mapping[str, Card]) -> Entry:
    first, *others = stages.values()
    spec = MODELS[first.family]
    reaches = max(spec.halo(scale=card.scale, **card.options) for card in stages.values())
    halo = min(reaches, max(card.halo for card in stages.values()))
    return Entry(
        model=model,
        name=first.name,
        scale=first.scale,
        parameters=first.parameters,
        halo=halo,
        exact=halo >= reaches,
        alignment=spec.alignment,
        precisions=_common([first.precisions, *(card.precisions for card in others)]),
        files={name: digest for card in stages.values() for name, digest in card.files.items()},
        cards=stages,
    )


@lru_cache(maxsize=8)  # a folder of pictures asks for each of them
def _of_others(path: Path, _size: int, _changed_ns: int) -> Entry:
    network = Community(read(path), str(path))
    seen = reach(network)
    return Entry(
        model=str(path),
        name=path.stem,
        scale=network.scale,
        parameters=sum(p.numel() for p in network.parameters()),
        halo=HALO if seen is None else seen,
        exact=seen is not None,
        alignment=network.alignment,
        precisions=network.precisions,
        files={path.name: sha256(path)},
        about={"architecture": network.architecture, "tags": ", ".join(network.tags)},
    )


def _built(entry: Entry, perception: float) -> nn.Module:
    """One of our networks, with its weights where the dial stands."""
    if perception in (0, 1):
        card = entry.cards[STAGES[int(perception)]]
        state = tensors(card)
    else:
        card, state = entry.card, _between(entry, perception)
    try:
        network = MODELS[card.family].build(scale=card.scale, **card.options)
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{card.stem} does not fit its own network ({reason})") from error
    return network


def _between(entry: Entry, perception: float) -> dict[str, Tensor]:
    start, end = (tensors(entry.cards[stage]) for stage in STAGES)
    alike = entry.cards[STAGES[0]].options == entry.cards[STAGES[1]].options
    shapes = [{key: t.shape for key, t in each.items()} for each in (start, end)]
    if not alike or shapes[0] != shapes[1]:
        raise WeightsError(
            f"the two stages of {entry.name} are not of one network, so that nothing lies between"
            " them; use --perception 0 or 1"
        )
    return {key: torch.lerp(start[key], end[key], perception) for key in start}


def _order(entry: Entry) -> tuple[int, int]:
    """The first of the networks that a name means is the least."""
    if not entry.cards:
        return 0, 0
    card = entry.card
    return PRESETS.index(card.preset), MODELS[card.family].scales.index(card.scale)
