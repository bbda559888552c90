"""Weights and their cards: find them, check them, build the network they belong to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from srpipe.errors import ConfigError, WeightsError
from srpipe.models import MODELS
from srpipe.settings import nearest

SHIPPED = Path(__file__).with_name("weights")
"""The folder of the weights that come with the package."""

SHARD_BYTES = 16 * 2**20
"""Largest weights file; a network with more is spread over several."""

STAGES = ("fidelity", "perception")
"""Trained to be right in every pixel, and then to look right."""

PRESETS = ("paper", "lite")
"""Best first: a family's name alone means the first of these that has weights."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of one set of weights.

    Parameters
    ----------
    family, preset, scale : which network
    stage : "fidelity" or "perception"
    options : the preset's options when the weights were made
    parameters : how many numbers they are
    halo : radius, in input pixels, beyond which the input moves the output by less than half an
        8-bit level
    precisions : in which the 8-bit result was found within one level of float32
    training : recipe, data, steps and seconds spent
    metrics : what was measured, with its protocol
    licence : of the weights
    files : file name to sha256, beside the card
    """

    family: str
    preset: str
    scale: int
    stage: str
    options: Mapping[str, Any]
    parameters: int
    halo: int
    precisions: tuple[str, ...] = ("fp32",)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"
    files: Mapping[str, str]
    folder: Path = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The network's name, the same for both stages: ``eagcl-lite-x4``."""
        return f"{self.family}-{self.preset}-x{self.scale}"

    @property
    def stem(self) -> str:
        """The name of the card's file, without its ending."""
        return f"{self.name}-{self.stage}"

    def to_dict(self) -> dict[str, Any]:
        """The card as it is written to JSON."""
        facts = asdict(self)
        del facts["folder"]
        return facts

    @classmethod
    def read(cls, path: Path) -> "Card":
        """The card in a JSON file.

        Raises
        ------
        WeightsError
            If it is no card, or has other entries than this version knows.
        """
        try:
            facts = json.loads(path.read_text())
            facts["precisions"] = tuple(facts["precisions"])
            card = cls(**facts, folder=path.parent)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{path} is no weights card ({error}); remove or replace it"
            ) from error
        if card.family not in MODELS:
            raise WeightsError(f"{path} is for a model {card.family!r} that this version lacks")
        return card

    def write(self) -> Path:
        """Write the card beside its weights."""
        path = self.folder / f"{self.stem}.json"
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return path


@dataclass(frozen=True)
class Entry:
    """A network with weights of one stage or of both."""

    cards: Mapping[str, Card]

    @property
    def card(self) -> Card:
        """The first stage's card."""
        return next(iter(self.cards.values()))

    @property
    def name(self) -> str:
        """``eagcl-lite-x4``."""
        return self.card.name

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.card.scale

    @property
    def stages(self) -> tuple[str, ...]:
        """Which of `STAGES` have weights."""
        return tuple(self.cards)


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, in float32 on the CPU.

    Parameters
    ----------
    perception : 0 for the fidelity weights, 1 for the perception weights, in between for both
    """

    network: nn.Module
    entry: Entry
    perception: float

    @property
    def card(self) -> Card:
        """The card of the stage that counts more."""
        stage = STAGES[self.perception >= 0.5]
        return self.entry.cards.get(stage, self.entry.card)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.entry.scale

    @property
    def halo(self) -> int:
        """Radius that tiles must see around themselves, in input pixels."""
        return min(self._reach, max(card.halo for card in self.entry.cards.values()))

    @property
    def exact(self) -> bool:
        """Whether the halo is the whole receptive radius."""
        return self.halo >= self._reach

    @property
    def alignment(self) -> int:
        """What tile starts must be multiples of."""
        return MODELS[self.card.family].alignment

    @cached_property
    def _reach(self) -> int:
        return MODELS[self.card.family].halo(**self.card.options)


def cards(folder: Path | None = None) -> list[Card]:
    """Every card in a folder, or in the package: sorted by name, fidelity first."""
    found = [Card.read(path) for path in sorted((folder or SHIPPED).glob("*.json"))]
    return sorted(found, key=lambda card: (card.name, STAGES.index(card.stage)))


def entries(folder: Path | None = None) -> list[Entry]:
    """Every network that has weights in a folder, or in the package."""
    by_name: dict[str, dict[str, Card]] = {}
    for card in cards(folder):
        by_name.setdefault(card.name, {})[card.stage] = card
    return [Entry(stages) for stages in by_name.values()]


def find(name: str, *, scale: int | None = None, folder: Path | None = None) -> Entry:
    """The network that a name means: ``eagcl``, ``eagcl-lite`` or ``eagcl-lite-x4``.

    A family's name alone means its first preset, and a missing scale its first scale, that has
    weights.

    Raises
    ------
    ConfigError
        If there is no such network, or not at this scale.
    """
    known = entries(folder)
    found = [entry for entry in known if name in _names(entry.card)]
    if not found:
        names = sorted({each for entry in known for each in _names(entry.card)})
        hint = nearest(name, names) if names else "; no weights are installed"
        raise ConfigError(f"there is no model {name!r}{hint}")
    fitting = [entry for entry in found if scale in (None, entry.scale)]
    if not fitting:
        scales = " or ".join(str(entry.scale) for entry in found)
        raise ConfigError(f"{name} enlarges {scales} times, not {scale}; use --scale {scales}")
    spec_order = MODELS[fitting[0].card.family].scales
    return min(fitting, key=lambda e: (PRESETS.index(e.card.preset), spec_order.index(e.scale)))


def load(
    name: str,
    *,
    scale: int | None = None,
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
    if perception is None:
        perception = float("perception" in entry.stages)
    missing = [
        stage
        for stage, share in zip(STAGES, (1 - perception, perception), strict=True)
        if share > 0 and stage not in entry.stages
    ]
    if missing:
        raise ConfigError(
            f"{entry.name} has no {missing[0]} weights; use --perception"
            f" {0 if missing[0] == 'perception' else 1}"
        )
    if perception in (0, 1):
        state = tensors(entry.cards[STAGES[int(perception)]])
    else:
        start, end = (tensors(entry.cards[stage]) for stage in STAGES)
        state = {key: torch.lerp(start[key], end[key], perception) for key in start}
    card = entry.card
    network = MODELS[card.family].build(scale=card.scale, **card.options)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{card.stem} does not fit its own network ({reason})") from error
    return Loaded(network.eval().requires_grad_(False), entry, perception)


def tensors(card: Card) -> dict[str, Tensor]:
    """The weights that belong to a card, checked, as float32.

    Raises
    ------
    WeightsError
        If a file is missing, unreadable, or its hash is not the card's.
    """
    verify(card)
    state: dict[str, Tensor] = {}
    for file in card.files:
        try:
            state |= load_file(card.folder / file)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{card.folder / file} cannot be read ({error})") from error
    return {name: tensor.float() for name, tensor in state.items()}


def verify(card: Card) -> None:
    """Compare the files of a card with the hashes in it.

    Raises
    ------
    WeightsError
        If a file is missing or another than the card describes.
    """
    for file, wanted in card.files.items():
        path = card.folder / file
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise WeightsError(
                f"the weights {path} cannot be read ({error.strerror}); install srpipe again"
            ) from error
        if found != wanted:
            raise WeightsError(
                f"the weights {path} have the hash {found[:12]}, not {wanted[:12]} as their card"
                " says; they are damaged or were replaced: install srpipe again"
            )


def store(state: Mapping[str, Tensor], folder: Path, stem: str) -> dict[str, str]:
    """Write weights as float16, in files of at most `SHARD_BYTES`; file names and their sha256."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        half = tensor.detach().to("cpu", torch.float16).contiguous()
        if size + half.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = half
        size += half.nbytes
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        path = folder / f"{stem}{part}.safetensors"
        save_file(shard, path)
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


def _names(card: Card) -> tuple[str, str, str]:
    return card.family, f"{card.family}-{card.preset}", card.name
