"""A training run in one file: what is trained, on what, with which losses, for how long."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from srpipe.errors import ConfigError
from srpipe.settings import nearest

SHIPPED = Path(__file__).with_name("recipes")
"""The folder of the recipes that come with the package."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The network that is trained, and the weights it starts from."""

    family: str
    preset: str
    scale: int
    stage: str
    start: str = ""
    """Stem of a card among the shipped weights, or the path of a card; empty: from scratch."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the images are and how they are cut."""

    folder: Path = Path("data/train")
    about: str = ""
    """What the images are and under which licences, for the card."""
    patch: int
    """Side of the high-resolution squares, in pixels."""
    batch: int
    holdout: float = 0.03
    """Share of the photographs that only validation sees."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights of the losses; 0 leaves one out."""

    l1: float = 0.0
    gradient_l1: float = 0.0
    gradient_correlation: float = 0.0
    gradient_branch: float = 0.0
    """L1 of the gradient map that the network predicts against the truth's."""
    perceptual: float = 0.0
    adversarial: float = 0.0
    vgg: Path = Path("data/vgg19.safetensors")
    """VGG19's weights for the perceptual loss."""


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam for the generator, and for the critic where there is one."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    """Largest norm of the generator's gradient."""
    critic_width: int = 64
    critic_rate: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, and how the learning rate falls: by cosine to 0, or halved every so often."""

    iterations: int
    warmup: int = 200
    halve_every: int = 0
    """Iterations; 0 takes the cosine."""
    time_budget_s: float = 0.0
    """Seconds after which the run ends annealed, however far it came; 0: no bound."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the run is made and watched."""

    seed: int = 1
    precision: str = "auto"
    ema: float = 0.999
    log_every: int = 100
    validate_every_s: float = 300.0
    checkpoint_every_s: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run's result."""

    model: Model
    data: Data
    losses: Losses
    optimiser: Optimiser
    schedule: Schedule
    run: Run = field(default_factory=Run)


def read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from a TOML file or a shipped one's name, with ``section.key=value`` changes.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or a key is unknown (the nearest is named), missing, or
        of another type.
    """
    if not path.exists() and (SHIPPED / f"{path}.toml").exists():
        path = SHIPPED / f"{path}.toml"
    try:
        settings = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
        raise ConfigError(f"{path} is no recipe ({error}); there are {names}") from error
    for change in changes:
        _apply(settings, change)
    return _build(Recipe, settings, "")


def to_dict(recipe: Any) -> dict[str, Any]:
    """A recipe as plain values, for a checkpoint or a card."""
    return {
        f.name: to_dict(value) if is_dataclass(value) else _plain(value)
        for f in fields(recipe)
        for value in [getattr(recipe, f.name)]
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _apply(settings: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and name):
        raise ConfigError(f"{change!r} changes nothing; write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    settings.setdefault(section, {})[name] = value


def _build(kind: type, settings: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    for key in settings:
        if key not in hints:
            known = [f"{where}{each}" for each in hints]
            raise ConfigError(f"a recipe has no {where}{key}{nearest(where + key, known)}")
    try:
        return kind(**{k: _value(hints[k], v, f"{where}{k}") for k, v in settings.items()})
    except TypeError as error:
        raise ConfigError(f"the recipe's section {where.rstrip('.') or 'list'}: {error}") from error


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a section of a recipe, not a value")
        return _build(kind, value, f"{where}.")
    try:
        if kind in (int, float, str, Path):
            if isinstance(value, bool) or (kind is int and isinstance(value, float)):
                raise ValueError(value)
            return kind(value)
        return tuple(float(each) for each in value)
    except (TypeError, ValueError) as error:
        name = getattr(kind, "__name__", "two numbers")
        raise ConfigError(f"{where} takes {name}, not {value!r}") from error
