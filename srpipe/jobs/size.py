"""How large a result is to be, and which network comes nearest to that."""

from dataclasses import replace
from pathlib import Path

import torch

from srpipe import zoo
from srpipe.device import free_bytes
from srpipe.errors import ConfigError, DeviceError
from srpipe.settings import RunSettings, size_of

Size = tuple[int, int]

_BYTES_PER_PIXEL = 40  # of the result: RGBA in float32, its codes, and a copy of each for a moment


def network(settings: RunSettings, times: float | None = None) -> zoo.Entry:
    """The network that enlarges by what was asked for, or by `times`.

    Where there is none, it is the next larger one, whose result is then reduced; failing that, the
    largest, whose result is resampled for the rest.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    times = times or settings.scale
    if times is None:
        return zoo.find(settings.model, folder=settings.weights)
    known = zoo.scales(settings.model, folder=settings.weights)
    scale = next((scale for scale in known if scale >= times), known[-1])
    return zoo.find(settings.model, scale=scale, folder=settings.weights)


def located(settings: RunSettings) -> RunSettings:
    """The settings with paths that name the same network for a process in another folder."""
    model, weights = settings.model, settings.weights
    return replace(
        settings,
        model=str(Path(model).absolute()) if zoo.is_file(model) else model,
        weights=None if weights is None else weights.absolute(),
    )


def aim(
    settings: RunSettings, before: Size, *, turned: bool, even: bool
) -> tuple[zoo.Entry, Size, tuple[str, ...]]:
    """The network, height and width of the result as stored, and what a user should know of them.

    Parameters
    ----------
    before : height and width of the source as stored
    turned : whether it is shown with its sides exchanged, as a size that was asked for is meant
    even : whether sides that do not come out whole are brought to even numbers, as videos want

    Raises
    ------
    ConfigError
        If the result would be smaller than the source, or there is no such model.
    """
    if settings.size is None:
        entry = network(settings)
        times = settings.scale or entry.scale
        after = _times(before[0], times, even), _times(before[1], times, even)
    else:
        height, width = size_of(settings.size)
        after = (width, height) if turned else (height, width)
        times = max(new / old for new, old in zip(after, before, strict=True))
        if times < 1:
            raise ConfigError(
                f"{settings.size} is smaller than the source, which has {before[1]}x{before[0]};"
                " ask for more"
            )
        entry = network(settings, times)
    return entry, after, _notices(entry, times)


def check_memory(after: Size) -> None:
    """See that a picture of this size fits; the system would end the process and not say why.

    Raises
    ------
    DeviceError
        If it does not.
    """
    needed, free = after[0] * after[1] * _BYTES_PER_PIXEL, free_bytes(torch.device("cpu"))
    if needed > free:
        raise DeviceError(
            f"a picture of {after[1]} x {after[0]} px needs about {needed / 2**30:.1f} GiB of"
            f" memory and there are {free / 2**30:.1f} GiB; cut it into pieces or take a smaller"
            " scale"
        )


def label(settings: RunSettings, entry: zoo.Entry) -> str:
    """The model as it was typed, or a file's own name, and how large it makes: ``eagcl_x4``."""
    much = settings.size or f"x{settings.scale or entry.scale:g}"
    in_full = zoo.is_file(settings.model) or settings.model == entry.name
    return f"{zoo.called(entry) if in_full else settings.model}_{much}"


def _times(side: int, times: float, even: bool) -> int:
    if times == int(times):
        return side * int(times)
    return round(side * times / 2) * 2 if even else round(side * times)


def _notices(entry: zoo.Entry, times: float) -> tuple[str, ...]:
    if times <= entry.scale:
        return ()
    return (f"{entry.name} enlarges {entry.scale} times; the rest up to {times:g} is resampled",)
