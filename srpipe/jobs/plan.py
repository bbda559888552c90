"""What a job will do, settled before anything is loaded or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srpipe import zoo
from srpipe.errors import ConfigError
from srpipe.io import FORMATS, format_of, image, picture_format
from srpipe.io.picture import Picture, layout_in
from srpipe.io.video import VideoSource, suffix_for
from srpipe.jobs.report import Result, Status
from srpipe.jobs.target import check_folder, exists, is_folder, part_of, resolved
from srpipe.settings import RunSettings

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One input, one output, and the network between them.

    Parameters
    ----------
    format : of the source, a name in `FORMATS`
    exists : whether the target is there and stays as it is; the source was not looked into then
    size : height and width of the source
    frames, seconds : as far as the source says
    picture : the source, where it is one picture, on its way into the target's format
    """

    source: Path
    target: Path
    settings: RunSettings
    format: str
    entry: zoo.Entry
    perception: float
    exists: bool = False
    size: Size | None = None
    frames: int | None = None
    seconds: float | None = None
    picture: Picture | None = None
    notices: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["picture", "video"]:
        """Which way the input goes."""
        return FORMATS[self.format].kind

    @property
    def part(self) -> Path:
        """The name under which the target grows."""
        return part_of(self.target)

    @property
    def size_after(self) -> Size | None:
        """Height and width of the target."""
        return self.size and (self.size[0] * self.entry.scale, self.size[1] * self.entry.scale)

    def result(self, *, status: Status, **facts: Any) -> Result:
        """What became of the plan."""
        fixed: dict[str, Any] = {
            "source": self.source,
            "target": self.target,
            "model": self.entry.name,
            "scale": self.entry.scale,
            "perception": self.perception,
            "size_before": self.size,
            "size_after": self.size_after,
            "notices": self.notices,
        }
        return Result(status=status, **(fixed | facts))

    def to_dict(self) -> dict[str, Any]:
        """What a user wants to know of it, in plain values."""
        return {
            "target": str(self.target),
            "kind": self.kind,
            "exists": self.exists,
            "model": self.entry.name,
            "scale": self.entry.scale,
            "perception": self.perception,
            "size_before": self.size,
            "size_after": self.size_after,
            "frames": self.frames,
            "seconds": self.seconds,
            "notices": self.notices,
        }


def plan(source: Path, target: str | Path | None, settings: RunSettings) -> Plan:
    """Look at an input and at the place for its output.

    Parameters
    ----------
    target : a file; or a folder, if it exists or ends with a slash; by default
        ``{stem}_{model}_x{scale}{suffix}`` beside the source

    Raises
    ------
    SrpipeError
        If the input cannot be read, the output cannot be written, or there is no such model.
    """
    form = format_of(source)
    entry = zoo.find(settings.model, scale=settings.scale, folder=settings.weights)
    name = f"{source.stem}_{_label(settings, entry)}{_suffix(source, form)}"
    path = resolved(target, name, source)
    check_folder(path.parent, may_be_made=target is not None and is_folder(target))
    skipped = exists(path) and not settings.overwrite
    facts = {} if skipped else _video(source) if form == "video" else _picture(source, path, entry)
    return Plan(
        source=source,
        target=path,
        settings=settings,
        format=form,
        entry=entry,
        perception=_perception(settings, form, entry),
        exists=skipped,
        **facts,
    )


def _label(settings: RunSettings, entry: zoo.Entry) -> str:
    """The model as it was typed, and the scale."""
    return f"{settings.model.removesuffix(f'-x{entry.scale}')}_x{entry.scale}"


def _suffix(source: Path, form: str) -> str:
    if form == "video":
        return suffix_for(source)
    suffix = source.suffix
    return suffix if suffix.lower() in FORMATS[form].suffixes else FORMATS[form].suffixes[0]


def _perception(settings: RunSettings, form: str, entry: zoo.Entry) -> float:
    """What was asked for; by default fidelity for TIFF, which is measured, and sharpness else."""
    if settings.perception is not None:
        return settings.perception
    wanted = "fidelity" if form == "tiff" else "perception"
    stage = wanted if wanted in entry.stages else entry.stages[0]
    return float(stage == "perception")


def _video(source: Path) -> dict[str, Any]:
    # damage may lie anywhere, so what to do about it is settled while running
    video = VideoSource(source, allow_truncated=True)
    try:
        return {
            "size": (video.height, video.width),
            "frames": video.count,
            "seconds": video.duration_s,
            "notices": tuple(video.notices),
        }
    finally:
        video.close()


def _picture(source: Path, target: Path, entry: zoo.Entry) -> dict[str, Any]:
    name = picture_format(target)
    picture = image.read(source)
    had, has = picture.frame.layout, layout_in(picture.frame.layout, name)
    fewer = f"{had.bits} bits per sample become {has.bits} in {name.upper()}"
    notices = picture.notices if had.bits == has.bits else (*picture.notices, fewer)
    size = picture.frame.height, picture.frame.width
    if max(size) * entry.scale > FORMATS[name].side_max:
        raise ConfigError(
            f"{name.upper()} holds sides of up to {FORMATS[name].side_max} px, and {target} would"
            f" have {max(size) * entry.scale}; write PNG or TIFF with -o"
        )
    return {"size": size, "frames": 1, "picture": picture.converted(name), "notices": notices}
