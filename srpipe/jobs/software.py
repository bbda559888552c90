"""What decides the numbers of a job beside its settings: libraries, and weights by their hash."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

from srpipe import __version__, zoo
from srpipe.errors import ConfigError
from srpipe.jobs.size import network
from srpipe.settings import RunSettings


def versions() -> dict[str, str]:
    """Of the software that decides what numbers come out."""
    return {"srpipe": __version__, **{name: version(name) for name in ("torch", "av")}}


def weights(settings: RunSettings) -> dict[str, str]:
    """Hashes of all weights that these settings may take, by file; a size may take any scale's."""
    entries = [network(settings)]
    if settings.size is not None:
        scales = zoo.scales(settings.model, folder=settings.weights)
        entries = [zoo.find(settings.model, scale=s, folder=settings.weights) for s in scales]
    return {name: digest for entry in entries for name, digest in entry.files.items()}


def software(settings: RunSettings) -> dict[str, str]:
    """All that must be the same wherever parts of one job are done."""
    return versions() | weights(settings)


def check(wanted: Mapping[str, str], settings: RunSettings) -> None:
    """See that this process has what the job was begun with.

    Raises
    ------
    ConfigError
        If a library or a file of weights is another one.
    """
    here = software(settings)
    for name, value in wanted.items():
        found = here.get(name)
        if found != value:
            raise ConfigError(
                f"the worker on {platform.node()} has {name} {_short(found)} and the job was begun"
                f" with {_short(value)}; install the same on all machines"
            )


def _short(text: str | None) -> str:
    return "not at all" if text is None else text[:12]
