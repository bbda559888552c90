"""What a job will do, settled before anything is loaded or written."""

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from srpipe import zoo
from srpipe.color import check_matrix
from srpipe.device import passed_over
from srpipe.errors import ConfigError, TargetError
from srpipe.io import FORMATS, format_of, image, picture_format
from srpipe.io.picture import Picture, layout_in
from srpipe.io.raster_formats import names_a_raster, raster_suffix
from srpipe.io.sequence import is_sequence
from srpipe.io.video import SEQUENCES, SequenceSink, VideoSink, VideoSource, suffix_for
from srpipe.io.video_index import by_packets, near
from srpipe.jobs import compressed
from srpipe.jobs.journal import check, fingerprint, has_work
from srpipe.jobs.raster_plan import RasterPlan, look, warnings
from srpipe.jobs.report import Result, Status
from srpipe.jobs.size import Size, aim, check_memory, label, located, network
from srpipe.jobs.target import (
    check_folder,
    check_kind,
    check_place,
    exists,
    is_folder,
    is_zarr,
    part_of,
    resolved,
)
from srpipe.settings import RunSettings, rate_of

_OF_PICTURES = ("rate",)
"""Settings that say something of numbered pictures alone."""

_OF_VIDEO = (*_OF_PICTURES, "codec", "crf", "pix_fmt", "options")
"""Settings that say something of videos alone."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One input, one output, and the network between them.

    Parameters
    ----------
    format : of the source, a name in `FORMATS`
    exists : whether the target is there and stays as it is; the source was not looked into then
    size, size_after : height and width of the source and of the target, as stored
    frames, seconds : as far as the source says
    pattern : how pictures are named, where the target is a folder of numbered ones
    picture : the source, where it is one picture, on its way into the target's format
    raster : how it is enlarged, where it is a raster
    claimed : where it is noted that the target is ours, as for a folder's file; see `claims`
    """

    source: Path
    target: Path
    settings: RunSettings
    format: str
    entry: zoo.Entry
    perception: float | None
    exists: bool = False
    size: Size | None = None
    size_after: Size | None = None
    frames: int | None = None
    seconds: float | None = None
    pattern: str | None = None
    picture: Picture | None = None
    raster: RasterPlan | None = None
    claimed: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["picture", "video", "raster"]:
        """Which way the input goes."""
        return FORMATS[self.format].kind

    @property
    def part(self) -> Path:
        """The name under which the target grows."""
        return part_of(self.target)

    @property
    def network(self) -> RunSettings:
        """The settings that name the network itself, whatever size was asked for."""
        entry = self.entry
        return located(replace(self.settings, model=entry.model, scale=entry.scale, size=None))

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
            "bands": None if self.raster is None else self.raster.source.shape[1],
            "seconds": self.seconds,
            "notices": self.notices,
        }


def plan(
    source: Path,
    target: str | Path | None,
    settings: RunSettings,
    *,
    make_folders: bool = False,
    alone: bool = True,
) -> Plan:
    """Look at an input and at the place for its output.

    Parameters
    ----------
    target : a file; or a folder, if it exists or ends with a slash; or a pattern for numbered
        pictures, in a folder of their own; by default ``{stem}_{model}_x{scale}{suffix}`` beside
        the source
    make_folders : whether the target's folder may be made, also where `target` is a file, as for
        the files of a folder
    alone : whether the settings are for this input only; those of videos may else be for others

    Raises
    ------
    SrpipeError
        If the input cannot be read, the output cannot be written, or there is no such model; or
        what is finished of the output, which is no file of a folder, is not of this plan.
    """
    form = format_of(source)
    if target is not None and names_a_raster(Path(target)):
        form = _into_a_raster(source, form)
    if alone and not make_folders:
        _refuse_settings(source, settings, form)
    entry = network(settings)
    name = _name(source, form, label(settings, entry))
    path, pattern = _place(source, target, name, form)
    check_place(path)
    may_be_made = make_folders or (target is not None and is_folder(target))
    check_folder(path.parent, may_be_made=may_be_made)
    skipped = _is_there(path, pattern, settings) and not settings.overwrite
    facts: dict[str, Any] = {"entry": entry}
    if not skipped:
        facts = _facts(source, path, pattern, settings, form)
    perception = _perception(settings, form, facts["entry"])
    if form in ("raster", "tiff") and not skipped:
        facts["notices"] += warnings(perception)
    if settings.device == "auto" and settings.scheduler is None and not skipped:
        facts["notices"] += passed_over()
    planned = Plan(
        source=source,
        target=path,
        settings=settings,
        format=form,
        perception=perception,
        exists=skipped,
        pattern=pattern,
        **facts,
    )
    if not (skipped or make_folders or settings.restart) and has_work(planned.part):
        check(planned.part, fingerprint(planned))
    return planned


def _into_a_raster(source: Path, form: str) -> str:
    """The format as which a source is read where its target is named as a raster.

    Raises
    ------
    ConfigError
        If it is a picture whose profile, EXIF and turning a raster cannot hold.
    """
    if FORMATS[form].kind == "picture" and form != "tiff":
        raise ConfigError(
            f"{source}: of pictures, only TIFF goes into OME-TIFF or OME-Zarr, not"
            f" {form.upper()}; convert it to TIFF first, or end -o in {FORMATS[form].suffixes[0]}"
        )
    return "raster" if form == "tiff" else form


def _place(
    source: Path, target: str | Path | None, name: str, form: str
) -> tuple[Path, str | None]:
    """The file or folder that is made, and for a folder how the pictures in it are named."""
    if target is None or is_folder(target) or not is_sequence(Path(target)):
        return resolved(target, name, source), None
    if form != "video":
        raise ConfigError(
            f"{target} names numbered pictures, which only a video becomes, and {source} is none;"
            " name one file with -o"
        )
    folder, pattern = Path(target).parent, Path(target).name
    if Path(pattern).suffix.lower() not in SEQUENCES:
        raise ConfigError(f"numbered pictures are written as {', '.join(SEQUENCES)}; change -o")
    if folder.resolve() in (Path.cwd(), source.resolve().parent):
        raise ConfigError(
            f"{target}: numbered pictures need a folder of their own, such as larger/{pattern}"
        )
    return folder, pattern


def _is_there(path: Path, pattern: str | None, settings: RunSettings) -> bool:
    """Whether the target is; an empty folder for numbered pictures is none.

    Raises
    ------
    TargetError
        If it is a folder of pictures that was to be replaced, or as `check_kind` does.
    """
    check_kind(path, folder=pattern is not None or is_zarr(path))
    if pattern is None or not exists(path):
        return exists(path)
    filled = any(path.iterdir())
    if filled and settings.overwrite:
        raise TargetError(f"{path} is a folder with files in it; remove it, or change -o")
    return filled


def _name(source: Path, form: str, label: str) -> str:
    """What a target is called that nobody named."""
    stem, suffix = source.stem, _suffix(source, form)
    if is_sequence(source):
        stem = source.absolute().parent.name
    elif form == "raster":  # such as .ome.tif
        stem = source.name.removesuffix(suffix)
    return f"{stem}_{label}{suffix}"


def _suffix(source: Path, form: str) -> str:
    if form == "raster":
        return raster_suffix(source)
    if form == "video":
        return suffix_for(source)
    suffix = source.suffix
    return suffix if suffix.lower() in FORMATS[form].suffixes else FORMATS[form].suffixes[0]


def _perception(settings: RunSettings, form: str, entry: zoo.Entry) -> float | None:
    """What was asked for; by default fidelity for TIFF, which is measured, and sharpness else."""
    measured = form in ("tiff", "raster") and "fidelity" in entry.stages
    return entry.dial(0.0 if settings.perception is None and measured else settings.perception)


def _refuse_settings(source: Path, settings: RunSettings, form: str) -> None:
    """Say which setting changes nothing of what is no video, or has times of its own."""
    if form == "video" and is_sequence(source):
        return
    told = ("has times of its own", _OF_PICTURES) if form == "video" else ("is no video", _OF_VIDEO)
    for field in dataclasses.fields(settings):
        if field.name in told[1] and getattr(settings, field.name) != field.default:
            option = field.name.replace("_", "-")
            raise ConfigError(f"{source} {told[0]}, so --{option} says nothing; leave it out")


def _facts(
    source: Path, target: Path, pattern: str | None, settings: RunSettings, form: str
) -> dict[str, Any]:
    if form == "raster":
        return look(source, target, settings)
    for name in ("range", "bands"):
        if getattr(settings, name) is not None:
            raise ConfigError(f"{source} is no raster, so --{name} says nothing; leave it out")
    if form == "video":
        return _video(source, target, pattern, settings)
    return _picture(source, target, settings)


def _video(
    source: Path, target: Path, pattern: str | None, settings: RunSettings
) -> dict[str, Any]:
    # damage may lie anywhere, so what to do about it is settled while running
    video = VideoSource(
        source,
        allow_truncated=True,
        deinterlace=settings.deinterlace == "auto",
        picture_rate=rate_of(settings.rate),
    )
    try:
        check_matrix(video.layout)
        size = video.height, video.width
        turned = abs(video.rotation) == 90
        entry, after, notices = aim(settings, size, turned=turned, even=True)
        with TemporaryDirectory() as folder:  # or it is refused before anything is loaded
            place = Path(folder) / "trial"
            sink = sink_for(place, video, settings, size=after, target=target, pattern=pattern)
            sink.abort()
        if isinstance(sink, VideoSink) and near(video, sink.tick_s):
            index = by_packets(video)
            if index is not None:
                sink.check_apart(index.times)
        return {
            "entry": entry,
            "size": size,
            "size_after": after,
            "frames": video.count,
            "seconds": video.duration_s,
            "notices": (
                *(*video.notices, *sink.notices, *notices),
                *compressed.of_video(video, entry),
            ),
        }
    finally:
        video.close()


def sink_for(
    place: Path,
    source: VideoSource,
    settings: RunSettings,
    *,
    size: Size,
    target: Path,
    pattern: str | None,
    comment: str | None = None,
) -> VideoSink | SequenceSink:
    """What writes an enlarged video to `place`, as `target` and the settings want it.

    Raises
    ------
    SrpipeError
        If the target cannot hold it, or the encoder does not start.
    """
    common: dict[str, Any] = {
        "height": size[0],
        "width": size[1],
        "codec": settings.codec,
        "crf": settings.crf,
        "pix_fmt": settings.pix_fmt,
        "options": dict(settings.options),
    }
    if pattern is not None:
        return SequenceSink(place, source, pattern=pattern, **common)
    return VideoSink(place, source, suffix=target.suffix, comment=comment, **common)


def _picture(source: Path, target: Path, settings: RunSettings) -> dict[str, Any]:
    name = picture_format(target)
    picture = image.read(source)
    had, has = picture.frame.layout, layout_in(picture.frame.layout, name)
    fewer = f"{had.bits} bits per sample become {has.bits} in {name.upper()}"
    notices = picture.notices if had.bits == has.bits else (*picture.notices, fewer)
    size = picture.frame.height, picture.frame.width
    entry, after, more = aim(settings, size, turned=picture.metadata.turned, even=False)
    if max(after) > FORMATS[name].side_max:
        raise ConfigError(
            f"{name.upper()} holds sides of up to {FORMATS[name].side_max} px, and {target} would"
            f" have {max(after)}; write PNG or TIFF with -o"
        )
    check_memory(after)
    return {
        "entry": entry,
        "size": size,
        "size_after": after,
        "frames": 1,
        "picture": picture.converted(name),
        "notices": (
            *(*notices, *image.stays_behind(picture, name), *more),
            *compressed.of_picture(picture, entry),
        ),
    }
