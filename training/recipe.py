"""A training run in one file: what is trained, on what, with which losses, for how long."""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from srpipe.errors import ConfigError
from srpipe.settings import nearest
from srpipe.zoo import network_name

SHIPPED = Path(__file__).with_name("recipes")
"""The folder of the recipes that come with the package."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The network that is trained, and the weights it starts from."""

    family: str
    preset: str
    scale: int
    stage: Literal["fidelity", "perception"]
    source: Literal["clean", "compressed"] = "clean"
    """What the network is to enlarge: pictures as a camera's, or what codecs left of them."""
    start: str = ""
    """Stem of a card among the shipped weights, or the path of a card; empty: from scratch. Of a
    card of another scale or preset, what has equal name and shape is taken; `rdam` takes a narrower
    preset's trunk as the first channels of its own. Several of one network, as in "a + b - c", are
    added up (Ilharco et al. 2023, arXiv:2212.04089): what was learned from c to b, a is given too.
    """

    @property
    def stem(self) -> str:
        """Of the files that it is exported to, and of the shipped recipe's name."""
        name = network_name(self.family, self.preset, self.scale, self.source)
        return f"{name}-{self.stage}"


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the images are, how they are cut, and how their low resolution is made."""

    folder: Path = Path("data/train")
    """Pictures of any kind, in it and in the folders in it."""
    cache: Path = Path("runs/packs")
    """Where the pictures are kept as they are trained on, so that they are decoded once."""
    about: str = ""
    """What the images are and under which licences, for the card."""
    patch: int
    """Side of the high-resolution squares, in pixels."""
    batch: int
    """Squares in a step, over all devices."""
    holdout: float = 0.03
    """Share of the photographs that only validation sees."""
    reduction: Literal["bicubic", "blur"] = "bicubic"
    """"bicubic" is the literature's BI; "blur" its BD, pixels of a Gaussian."""
    noise: tuple[float, float] = (0.0, 0.0)
    """Least and largest deviation of Gaussian noise on the low resolution, in 8-bit levels."""
    jpeg: tuple[int, int] = (0, 0)
    """Least and largest JPEG quality of the low resolution, 1 to 100; 0: not compressed."""
    h264: tuple[int, int] = (0, 0)
    """Least and largest rate factor of x264, 1 to 51, where the low resolution is of frames of a
    video; 0: it is not. With `jpeg` every square is of the one or of the other, by chance."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights of the losses; 0 leaves one out."""

    l1: float = 0.0
    mse: float = 0.0
    gradient_l1: float = 0.0
    gradient_mse: float = 0.0
    gradient_correlation: float = 0.0
    gradient_branch: float = 0.0
    """L1 of the gradient maps that the network predicts against the truth's."""
    grid: float = 0.0
    """Against the grid that a sub-pixel layer draws where the loss perceptual is strong."""
    steady: float = 0.0
    """Against what the image changes by where every layer is off by as much as in bfloat16."""
    perceptual: float = 0.0
    lpips: float = 0.0
    corners: int = 1
    """Along each side, from how many pixels on `perceptual` and `lpips` may see a square: from one
    of them, by chance, at each step. 1: they see all of it."""
    adversarial: float = 0.0
    """Against a critic that sees images."""
    gradient_adversarial: float = 0.0
    """Against a critic that sees gradient maps."""
    vgg: Path = Path("data/vgg19.safetensors")
    """VGG19's weights for the perceptual loss."""
    vgg_criterion: Literal["l1", "mse"] = "l1"
    lpips_net: Literal["alex", "vgg", "squeeze"] = "squeeze"
    lpips_backbone: Path = Path("data/squeezenet1_1.safetensors")
    """The backbone's weights for the loss lpips."""


@dataclass(frozen=True, kw_only=True)
class Critic:
    """What tells enlarged images from real ones, where a loss is adversarial."""

    game: Literal["ragan", "wgan-gp", "attsrgan"] = "ragan"
    network: Literal["vgg", "pooled"] = "vgg"
    """"vgg" for patches of one size, "pooled" for any."""
    width: int = 64
    norm: Literal["batch", "none"] = "batch"
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int = 1
    """Of the critics, for each of the generator."""
    penalty: float = 10.0
    """Weight of the gradient penalty of wgan-gp."""


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Adam for the generator."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    """Largest norm of the gradient; 0: no bound."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, and how all learning rates fall: by cosine, or halved at times."""

    iterations: int
    warmup: int = 200
    halve_every: int = 0
    """Iterations; with `halve_at` it takes the place of the cosine."""
    halve_at: tuple[int, ...] = ()
    """Iterations."""
    floor: float = 0.0
    """Where the cosine ends, as a share of the learning rate."""
    time_budget_s: float = 0.0
    """Seconds after which the run ends annealed, however far it came; 0: no bound."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the run is made and watched."""

    seed: int = 1
    devices: int = 1
    """Processes, each with a share of every batch."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """As Fabric names it."""
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
    critic: Critic = field(default_factory=Critic)
    optimiser: Optimiser
    schedule: Schedule
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        _check_ranges(self)
        if not any(isinstance(each, float) and each for each in vars(self.losses).values()):
            raise ConfigError("every loss has a weight of 0; give one a weight, such as losses.l1")
        for name, side in SIDES.items():
            least = side + self.losses.corners - 1
            if getattr(self.losses, name) and self.data.patch < least:
                raise ConfigError(
                    f"the loss {name} needs patches of {least} px or more, not {self.data.patch};"
                    f" set data.patch, or losses.{name} = 0"
                )
        if self.model.source == "compressed" and not (self.data.h264[1] or self.data.jpeg[1]):
            raise ConfigError(
                "a network for compressed pictures has to see some; set data.h264 or data.jpeg, or"
                " model.source = clean"
            )
        if self.critic.game == "wgan-gp" and self.critic.norm != "none":
            raise ConfigError(
                "the penalty of wgan-gp is of every image alone, and batch norm mixes them; set"
                " critic.norm = none"
            )
        if self.data.batch % self.run.devices:
            raise ConfigError(
                f"a batch of {self.data.batch} cannot be shared by {self.run.devices} devices; set"
                " data.batch to a multiple of run.devices"
            )


SIDES = {"perceptual": 16, "lpips": 32}
"""What the networks that compare features see at least, in pixels of each side."""

Range = tuple[Callable[[Any], bool], str]

ABOVE_0: Range = (lambda x: 0 < x < math.inf, "more than 0")
FROM_0: Range = (lambda x: 0 <= x < math.inf, "0 or more")
FROM_1: Range = (lambda x: x >= 1, "1 or more")
BELOW_1: Range = (lambda x: 0 <= x < 1, "at least 0 and less than 1")
BETAS: Range = (lambda x: all(0 <= each < 1 for each in x), "two of at least 0 and less than 1")
INSIDE: Range = (lambda x: 0 < x < 1, "more than 0 and less than 1")
ALL_FROM_1: Range = (lambda x: all(each >= 1 for each in x), "numbers of 1 or more")
SHARE: Range = (lambda x: 0 <= x <= 1, "0 to 1")
SEED: Range = (lambda x: -(2**63) <= x < 2**64, "a number of 64 bits")
RISING: Range = (lambda x: 0 <= x[0] <= x[1] < math.inf, "the least, 0 or more, then the largest")


def _ends(most: int) -> Range:
    """Of what is drawn from 1 to `most`; 0 and 0 where nothing is."""
    return (
        lambda x: x == (0, 0) or 1 <= x[0] <= x[1] <= most,
        f"the least and then the largest of 1 to {most}, or 0 and 0",
    )


RANGES: dict[str, Range] = {
    "data.patch": FROM_1,
    "data.batch": FROM_1,
    "data.holdout": INSIDE,
    "data.noise": RISING,
    "data.jpeg": _ends(100),
    "data.h264": _ends(51),
    **{f"losses.{f.name}": FROM_0 for f in fields(Losses) if f.type is float},
    "losses.corners": FROM_1,
    "critic.width": FROM_1,
    "critic.learning_rate": ABOVE_0,
    "critic.betas": BETAS,
    "critic.steps": FROM_1,
    "critic.penalty": FROM_0,
    "optimiser.learning_rate": ABOVE_0,
    "optimiser.betas": BETAS,
    "optimiser.clip": FROM_0,
    "schedule.iterations": FROM_1,
    "schedule.warmup": FROM_0,
    "schedule.halve_every": FROM_0,
    "schedule.halve_at": ALL_FROM_1,
    "schedule.floor": SHARE,
    "schedule.time_budget_s": FROM_0,
    "run.seed": SEED,
    "run.devices": FROM_1,
    "run.ema": BELOW_1,
    "run.log_every": FROM_1,
    "run.validate_every_s": FROM_0,
    "run.checkpoint_every_s": FROM_0,
}
"""What numbers may be, and how that is said; all others may be any."""


def _check_ranges(recipe: Recipe) -> None:
    for where, (holds, words) in RANGES.items():
        section, _, key = where.partition(".")
        value = getattr(getattr(recipe, section), key)
        if not holds(value):
            raise ConfigError(f"{where} cannot be {value}; it takes {words}")


def read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from a TOML file or a shipped one's name, with ``section.key=value`` changes.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or a key is unknown (the nearest is named), missing, of
        another type or out of range.
    """
    if not path.is_file() and (SHIPPED / f"{path}.toml").is_file():
        path = SHIPPED / f"{path}.toml"
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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


def default(section: str, key: str) -> Any:
    """What an entry is where a recipe, or a checkpoint of before it was there, leaves it out."""
    kind = get_type_hints(Recipe).get(section)
    found = (each.default for each in fields(kind) if each.name == key) if kind else iter(())
    value = next(found, None)
    return None if value is MISSING else _plain(value)


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
    if _kind(section, name) in (str, Path) and not isinstance(value, str):
        value = text  # a folder may be called 2024_01
    if not isinstance(settings.setdefault(section, {}), dict):
        raise ConfigError(f"{section} is a section of a recipe, not a value")
    settings[section][name] = value


def _kind(section: str, name: str) -> Any:
    """What an entry takes; None where there is no such entry."""
    known = get_type_hints(Recipe).get(section)
    return get_type_hints(known).get(name) if known else None


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
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} cannot be {value!r}{nearest(str(value), get_args(kind))}")
        return value
    try:
        if get_origin(kind) is tuple:
            return _several(get_args(kind), value)
        return _one(kind, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where} takes {_named(kind)}, not {value!r}") from error


def _several(kinds: tuple[Any, ...], values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or (kinds[-1] is not ... and len(values) != len(kinds)):
        raise ValueError(values)
    return tuple(_one(kinds[0], each) for each in values)


def _one(kind: Any, value: Any) -> Any:
    if isinstance(value, bool) or (kind in (int, float) and isinstance(value, str)):
        raise ValueError(value)
    if kind is int and isinstance(value, float):
        raise ValueError(value)
    return kind(str(value)) if kind is Path else kind(value)


def _named(kind: Any) -> str:
    if get_origin(kind) is not tuple:
        return str(kind.__name__)
    return "a list of numbers" if get_args(kind)[-1] is ... else "two numbers"
