"""Weights and their cards: write them, read them, check them."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from srpipe.errors import WeightsError
from srpipe.models import MODELS
from srpipe.precision import DTYPES
from srpipe.zoo.checkpoint import sha256

SHIPPED = Path(__file__).with_name("weights")
"""The folder of the weights that come with the package."""

SHARD_BYTES = 16_000_000
"""Largest weights file; a network with more is spread over several."""

ENTRY_BYTES = 128
"""What a tensor takes of a file's header, but for its name."""

SOURCES = ("clean", "compressed")
"""What a network is to enlarge: pictures as a camera's, or what codecs left of them."""

STAGES = ("fidelity", "perception")
"""Trained to be right in every pixel, and then to look right."""


def network_name(family: str, preset: str, scale: int, source: str) -> str:
    """``eagcl-lite-x4``, and ``eagcl-lite-x4-compressed`` where the source is not clean."""
    return f"{family}-{preset}-x{scale}{ending(source)}"


def ending(source: str) -> str:
    """What names of networks for this source end in."""
    return "" if source == SOURCES[0] else f"-{source}"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of one set of weights.

    Parameters
    ----------
    family, preset, scale : which network
    stage : "fidelity" or "perception"
    source : "clean", or "compressed": the pictures that they were trained to enlarge
    options : the preset's options when the weights were made
    parameters : how many numbers they are
    halo : radius, in input pixels, beyond which the input moves the output by less than half an
        8-bit level
    precisions : in which the 8-bit result was found within one level of float32
    training : recipe, data, steps and seconds spent; ``blend``, shares by name, where the numbers
        are a mixture of the run's and of other weights
    metrics : what was measured of it and of bicubic, by data set, with the protocol
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
    source: str = "clean"
    files: Mapping[str, str]
    folder: Path = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The network's name, the same for both stages: ``eagcl-lite-x4``."""
        return network_name(self.family, self.preset, self.scale, self.source)

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
            _check(card, path)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(
                f"{path} is no weights card ({error}); remove or replace it"
            ) from error
        return card

    def write(self) -> Path:
        """Write the card beside its weights.

        Raises
        ------
        WeightsError
            If it cannot be written.
        """
        path = self.folder / f"{self.stem}.json"
        try:
            put(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())
        except OSError as error:
            raise WeightsError(
                f"the card {path} cannot be written ({error.strerror}); make room for it or name"
                " a folder that can be written to"
            ) from error
        return path


def _check(card: Card, path: Path) -> None:
    """See that a card can be used.

    Raises
    ------
    WeightsError
        If it is for what this version does not know.
    ValueError, TypeError, AttributeError
        If an entry is not what it should be.
    """
    if card.source not in SOURCES:
        raise WeightsError(
            f"{path} is for a source {card.source!r}, of which this version knows nothing"
        )
    if card.family not in MODELS:
        raise WeightsError(f"{path} is for a model {card.family!r} that this version lacks")
    spec = MODELS[card.family]
    tables = (card.options, card.training, card.training.get("spent", {}), card.metrics)
    figures = [card.metrics.get(key, {}) for key in ("values", "bicubic")]
    sound = {
        "scale": type(card.scale) is int and card.scale in spec.scales,
        "stage": card.stage in STAGES,
        "preset": card.preset in spec.presets,
        "parameters": type(card.parameters) is int and card.parameters > 0,
        "halo": type(card.halo) is int and card.halo >= 0,
        "precisions": set(card.precisions) <= set(DTYPES),
        "training or metrics": all(isinstance(each, Mapping) for each in (*tables, *figures)),
        "metrics": set(figures[0]) <= set(figures[1]),
        "files": all(isinstance(each, str) for each in card.files.values()),
    }
    wrong = [name for name, right in sound.items() if not right]
    if wrong:
        raise ValueError(f"its {wrong[0]} cannot be so")
    spec.halo(scale=card.scale, **card.options)


def is_card(path: Path) -> bool:
    """Whether a file is a card, or means to be one, and not JSON of another kind."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return os.path.exists(path)  # no errors, unlike Path
    return isinstance(facts, dict) and {"family", "files"} <= facts.keys()


def put(path: Path, data: bytes) -> None:
    """Write a file beside the one that may be there, then put it in its place."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def cards(folder: Path | None = None) -> list[Card]:
    """Every card in a folder, or in the package: sorted by name, fidelity first.

    Raises
    ------
    WeightsError
        If there is no such folder, it or a card in it cannot be read, or two are of one stage.
    """
    if folder is not None and not os.path.isdir(folder):
        raise WeightsError(f"{folder} is no folder, and weights were to be in it; check the name")
    found: dict[str, tuple[Path, Card]] = {}
    for path in sorted(_named_json(folder or SHIPPED)):
        card = Card.read(path)
        other, _card = found.setdefault(card.stem, (path, card))
        if other != path:
            raise WeightsError(f"{other} and {path} are both cards of {card.stem}; remove one")
    read = (card for _path, card in found.values())
    return sorted(read, key=lambda card: (card.name, STAGES.index(card.stage)))


def _named_json(folder: Path) -> list[Path]:
    """Unlike ``glob``, which finds nothing in a folder that cannot be read."""
    try:
        return [path for path in folder.iterdir() if path.suffix == ".json"]
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot be read ({error.strerror}); change its rights"
        ) from error


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
    shipped = card.folder.resolve() == SHIPPED.resolve()
    remedy = "install srpipe again" if shipped else "put those back that the card is of"
    for file, wanted in card.files.items():
        path = card.folder / file
        try:
            found = sha256(path)
        except OSError as error:
            raise WeightsError(
                f"the weights {path} cannot be read ({error.strerror}); {remedy}"
            ) from error
        if found != wanted:
            raise WeightsError(
                f"the weights {path} have the hash {found[:12]}, not {wanted[:12]} as their card"
                f" says; they are damaged or were replaced: {remedy}"
            )


def store(state: Mapping[str, Tensor], folder: Path, stem: str) -> dict[str, str]:
    """Write weights as float16, in files of at most `SHARD_BYTES`; file names and their sha256."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        half = tensor.detach().to("cpu", torch.float16).contiguous()
        room = half.nbytes + len(name) + ENTRY_BYTES
        if size + room > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = half
        size += room
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        path = folder / f"{stem}{part}.safetensors"
        put(path, save(shard))  # where save_file would let nobody else read it
        files[path.name] = sha256(path)
    return files
