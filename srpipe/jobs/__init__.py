"""One input to one output, whichever kind it is; `folder` does the files of one.

A job is planned first, which reads the input's header and touches nothing, and then run. What it
writes appears whole or not at all.
"""

import threading
from pathlib import Path

from srpipe.device import memory_told
from srpipe.jobs import folder, picture, raster, video
from srpipe.jobs.engine import Engine
from srpipe.jobs.plan import Plan, plan
from srpipe.jobs.report import Event, Kind, Report, Result, unheard
from srpipe.jobs.target import abandon, clear, is_folder
from srpipe.settings import RunSettings

__all__ = [
    "Engine",
    "Event",
    "Plan",
    "Report",
    "Result",
    "abandon",
    "folder",
    "is_folder",
    "plan",
    "run",
    "unheard",
    "upscale",
]


WAYS = {"picture": picture.run, "video": video.run, "raster": raster.run}
"""What runs a plan, by its kind."""


def upscale(
    source: str | Path,
    target: str | Path | None = None,
    settings: RunSettings | None = None,
    *,
    report: Report = unheard,
    cancelled: threading.Event | None = None,
) -> Result:
    """Enlarge a picture, a video or a raster.

    Parameters
    ----------
    source : a PNG, JPEG, WebP, TIFF, GeoTIFF, OME-TIFF, OME-Zarr, or anything FFmpeg takes for a
        video
    target : a file; or a folder, if it exists or ends with a slash; by default
        ``{stem}_{model}_x{scale}{suffix}`` beside the source
    settings : by default those that the command line has
    report : called with each event, in the thread of the caller for videos
    cancelled : set it to stop within a second

    Raises
    ------
    SrpipeError
        If the input cannot be read, the output cannot be written, or a setting does not fit;
        Cancelled if that was asked for. Finished units of a video or a raster are kept in
        ``{target}.part``, and the same call goes on with them; nothing else is left behind.
    """
    with memory_told(str(source)):
        planned = plan(Path(source), target, settings or RunSettings())
    return run(planned, Engine(), report=report, cancelled=cancelled or threading.Event())


def run(
    planned: Plan, engine: Engine, *, report: Report = unheard, cancelled: threading.Event
) -> Result:
    """Do what was planned; `engine` keeps the network for the next plan.

    Raises
    ------
    SrpipeError
        As in `upscale`.
    """
    report(Event(kind="plan", source=planned.source, facts=planned.to_dict()))
    if planned.exists:
        clear(planned.target)
        result = planned.result(status="skipped")
    else:
        with memory_told(str(planned.source)):
            result = WAYS[planned.kind](planned, engine, report=report, cancelled=cancelled)
    kind: Kind = "skipped" if planned.exists else "done"
    report(Event(kind=kind, source=planned.source, facts=result.to_dict()))
    return result
