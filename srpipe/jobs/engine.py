"""From the settings of a run to a network that is ready for it."""

from dataclasses import dataclass
from pathlib import Path

from srpipe import zoo
from srpipe.device import found
from srpipe.infer import Upscaler
from srpipe.precision import best
from srpipe.settings import RunSettings

_WIDE_BITS = 16  # samples of as many bits show the rounding of low precision; design, section 4


@dataclass(frozen=True)
class _Wish:
    """All that decides which network is loaded and how it runs."""

    model: str
    scale: float | None
    perception: float | None
    weights: Path | None
    device: str
    precision: str
    tile: int | str
    blend: str
    ensemble: bool


class Engine:
    """A network on a device, loaded once and kept for the next input with the same settings.

    Parameters
    ----------
    turn : of the process, among those that share the machine's graphics cards
    """

    def __init__(self, turn: int = 0) -> None:
        self._turn = turn
        self._wish: _Wish | None = None
        self._ready: Upscaler | None = None

    def upscaler(self, settings: RunSettings, *, perception: float | None, bits: int) -> Upscaler:
        """A network for samples of this many bits.

        Raises
        ------
        ConfigError, WeightsError, DeviceError
            As `zoo.load` and `Upscaler` do.
        """
        wish = _Wish(
            model=settings.model,
            scale=settings.scale,
            perception=perception,
            weights=settings.weights,
            device=str(found(settings.device, self._turn)),
            precision=_precision(settings, bits),
            tile=settings.tile,
            blend=settings.blend,
            ensemble=settings.ensemble,
        )
        if self._ready is None or wish != self._wish:
            self._ready = None  # before the next one needs the room
            self._ready, self._wish = _loaded(wish), wish
        return self._ready


def _precision(settings: RunSettings, bits: int) -> str:
    """The precision that was asked for; by default one that the samples do not outdo."""
    return "fp32" if settings.precision == "auto" and bits >= _WIDE_BITS else settings.precision


def _loaded(wish: _Wish) -> Upscaler:
    loaded = zoo.load(wish.model, scale=wish.scale, perception=wish.perception, folder=wish.weights)
    precision = wish.precision
    if precision == "auto":
        precision = best(found(wish.device), loaded.precisions)
    return Upscaler(
        loaded.network,
        scale=loaded.scale,
        halo=loaded.halo,
        exact=loaded.exact,
        alignment=loaded.alignment,
        device=wish.device,
        precision=precision,
        tile=wish.tile,
        blend=wish.blend,
        ensemble=wish.ensemble,
    )
