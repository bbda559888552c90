"""What a run keeps of each video in a folder: ``python benchmarks/fidelity.py FOLDER``.

Every clip goes through the whole job with a network that only repeats pixels, and the file that
comes out is read back with PyAV and with ffprobe. A Markdown table.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import toy

from srpipe import RunSettings, SrpipeError
from srpipe.jobs import upscale
from srpipe.models import MODELS

TAGS = "color_range,color_space,color_transfer,color_primaries"
FASTEST = (("preset", "ultrafast"),)


def shown(path, index=None):
    """Index of a video stream, sizes of its frames, kinds of all streams, by PyAV."""
    with av.open(str(path)) as container:
        streams = container.streams
        video = streams.best("video") if index is None else streams[index]
        sizes = []
        with contextlib.suppress(av.FFmpegError):
            for frame in container.decode(video):
                sizes.append((frame.width, frame.height))  # noqa: PERF401 - may end early
        kinds = sorted(s.type for s in container.streams)
        return video.index, sizes, kinds, float(video.time_base)


def probed(path, index, entries):
    """What ffprobe says of a stream, as it prints JSON."""
    command = ["ffprobe", "-v", "error", "-select_streams", str(index), "-show_entries", entries]
    done = subprocess.run([*command, "-of", "json", str(path)], capture_output=True, check=False)
    return json.loads(done.stdout or "{}")


def tags(path, index):
    """Colour, pixel aspect and rotation of a stream; 1:1 where pixels have no shape."""
    entries = f"stream={TAGS},sample_aspect_ratio:stream_side_data=rotation"
    stream = (probed(path, index, entries).get("streams") or [{}])[0]
    for side in stream.pop("side_data_list", []):
        stream |= {k: v for k, v in side.items() if k == "rotation"}
    return {"sample_aspect_ratio": "1:1", **stream}


def times(path, index):
    """When each frame is shown, in seconds from the first one; None where ffprobe cannot tell."""
    frames = probed(path, index, "frame=best_effort_timestamp_time").get("frames", [])
    found = [f.get("best_effort_timestamp_time") for f in frames]
    return [None if t is None else float(t) for t in found]


def row(clip, folder, weights):
    options = () if clip.suffix == ".webm" else FASTEST
    settings = RunSettings(
        model="toy", weights=weights, options=options, allow_truncated=True, overwrite=True
    )
    try:
        result = upscale(clip, str(folder) + "/", settings)
    except SrpipeError as error:
        return [clip.name, "refused", str(error).replace(str(clip.parent) + "/", "")]
    index, sizes, kinds, tick = shown(clip)
    index_after, sizes_after, kinds_after, tick_after = shown(
        result.target, result.checked["video_index"]
    )
    before, after = times(clip, index), times(result.target, index_after)
    known = [b - a for a, b in zip(before, after, strict=False) if a is not None]
    off = max((abs(d) for d in known), default=0.0)
    a, b = tags(clip, index), tags(result.target, index_after)
    changed = [
        f"{k.split('_')[-1]} {a.get(k)}>{b.get(k)}" for k in {**a, **b} if a.get(k) != b.get(k)
    ]
    return [
        clip.name,
        result.status,
        f"{len(sizes)} / {len(before)}",
        f"{len(sizes_after)} / {len(after)}",
        "none before" if not known else "equal" if off <= max(tick, tick_after) else f"{off:.4f} s",
        f"{sizes[0][0]}x{sizes[0][1]} / {sizes_after[0][0]}x{sizes_after[0][1]}",
        f"{len(kinds)} / {len(kinds_after)}",
        "; ".join(changed) or "equal",
        " ".join(result.notices),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    MODELS["toy"] = toy.SPEC
    print(
        "Frames as PyAV / ffprobe count them; times as ffprobe gives them, off by at most a tick.\n"
    )
    print("| clip | status | frames in | frames out | times | size | streams | tags | notices |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "w").mkdir()
        weights = toy.install(Path(folder) / "w")
        for clip in sorted(p for p in args.folder.rglob("*") if p.is_file()):
            print("| " + " | ".join(row(clip, folder, weights)) + " |", flush=True)


if __name__ == "__main__":
    main()
