"""Errors that a caller may want to catch; each message is one line that says what to do."""


class SrpipeError(Exception):
    """Something a user can mend; ``exit_code`` is what the command line returns."""

    exit_code = 1


class ConfigError(SrpipeError):
    """What was asked for does not exist or does not fit together."""

    exit_code = 2


class PixelError(SrpipeError):
    """An array or tensor has a shape, type or range that the operation does not take."""


class MediaError(SrpipeError):
    """An input file cannot be read as what it claims to be."""


class TruncatedError(MediaError):
    """An input ends or breaks before its last frame; ``frames`` could be read."""

    def __init__(self, message: str, *, frames: int = 0) -> None:
        super().__init__(message)
        self.frames = frames


class TargetError(SrpipeError):
    """The output cannot be written: no permission, no room, or a container that cannot hold it."""


class WeightsError(SrpipeError):
    """A weights file is missing, damaged, or not what its card says."""


class DeviceError(SrpipeError):
    """The device is absent, out of memory, or gave values that are not finite."""


class Cancelled(SrpipeError):  # noqa: N818 - a request that was granted, not a fault
    """The caller asked to stop; nothing was published."""

    exit_code = 130
