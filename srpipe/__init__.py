"""Super-resolution that keeps every frame, timestamp, colour and coordinate.

Each name is imported when it is first used: the command's help needs no torch, and a program
that only wants the network needs no video library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srpipe.api import upscale as upscale
    from srpipe.errors import Cancelled as Cancelled
    from srpipe.errors import SrpipeError as SrpipeError
    from srpipe.infer import Upscaler as Upscaler
    from srpipe.io.frames import Frame as Frame
    from srpipe.jobs import Event as Event
    from srpipe.jobs import Result as Result
    from srpipe.pixels import Layout as Layout
    from srpipe.settings import RunSettings as RunSettings

__version__ = "0.1.0"

_HOMES = {
    "Cancelled": "srpipe.errors",
    "SrpipeError": "srpipe.errors",
    "Upscaler": "srpipe.infer",
    "Frame": "srpipe.io.frames",
    "Event": "srpipe.jobs",
    "Result": "srpipe.jobs",
    "upscale": "srpipe.api",
    "Layout": "srpipe.pixels",
    "RunSettings": "srpipe.settings",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """A public name, from the file where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'srpipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
