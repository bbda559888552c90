"""What a run keeps of each video in a folder: ``python benchmarks/fidelity.py FOLDER``.

Every clip goes through the whole job with a network that only repeats pixels, and the file that
comes out is read back with PyAV and with ffprobe, where that is installed. A Markdown table.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import toy

from srpipe import RunSettings, SrpipeError, upscale
from srpipe.models import MODELS

TAGS = "color_range,color_space,color_transfer,color_primaries"
FASTEST = (("preset", "ultrafast"),)


def times(path):
    """Presentation times in seconds and sizes of the shown frames, by PyAV."""
    with av.open(str(path)) as container:
        video = container.streams.best("video")
        video.thread_type = "AUTO"
        tick = float(video.time_base)
        frames = []
        try:
            for frame in container.decode(video):
                frames.append((frame.pts, frame.width, frame.height))  # noqa: PERF401 - may end early
        except av.FFmpegError:
            pass
        kinds = sorted(s.type for s in container.streams)
    return [None if p is None else p * tick for p, _, _ in frames], frames, kinds, tick, video.index


def probed(path, index):
    """What ffprobe says of a stream: colour, pixel aspect, rotation, frames."""
    if not shutil.which("ffprobe"):
        return {}
    entries = f"stream={TAGS},sample_aspect_ratio,width,height,nb_read_packets:side_data=rotation"
    command = ["ffprobe", "-v", "error", "-select_streams", str(index), "-count_packets"]
    command += ["-show_entries", entries, "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    streams = json.loads(done.stdout or "{}").get("streams") or [{}]
    stream = streams[0]
    for side in stream.pop("side_data_list", []):
        stream |= {k: v for k, v in side.items() if k == "rotation"}
    return stream


def row(clip, folder, weights):
    settings = RunSettings(
        model="toy", weights=weights, options=FASTEST, allow_truncated=True, overwrite=True
    )
    try:
        result = upscale(clip, str(folder) + "/", settings)
    except SrpipeError as error:
        return [clip.name, "refused", str(error).replace(str(clip.parent) + "/", "")]
    before, frames, kinds, tick, index = times(clip)
    after, larger, kinds_after, tick_after, index_after = times(result.target)
    slack = max(tick, tick_after)
    known = [(a, b) for a, b in zip(before, after, strict=False) if a is not None]
    off = max((abs(a - b) for a, b in known), default=0.0)
    a, b = probed(clip, index), probed(result.target, index_after)
    tags = [
        f"{k.split('_')[-1]} {a.get(k)}>{b.get(k)}" for k in TAGS.split(",") if a.get(k) != b.get(k)
    ]
    same = [k for k in ("sample_aspect_ratio", "rotation") if a.get(k) != b.get(k)]
    return [
        clip.name,
        result.status,
        f"{len(before)} / {len(after)} / {b.get('nb_read_packets', '?')}",
        "none before" if not known else "equal" if off <= slack * 1.0001 else f"off {off:.4f} s",
        f"{frames[0][1]}x{frames[0][2]} / {larger[0][1]}x{larger[0][2]}",
        f"{len(kinds)} / {len(kinds_after)}",
        "; ".join(tags + [f"{k} {a.get(k)}>{b.get(k)}" for k in same]) or "equal",
        " ".join(result.notices),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    MODELS["toy"] = toy.SPEC
    print("| clip | status | frames in / out / ffprobe | times | size | streams | tags | notices |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "w").mkdir()
        weights = toy.install(Path(folder) / "w")
        for clip in sorted(p for p in args.folder.rglob("*") if p.is_file()):
            print("| " + " | ".join(row(clip, folder, weights)) + " |", flush=True)


if __name__ == "__main__":
    main()
