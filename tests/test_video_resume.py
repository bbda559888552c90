"""A video that is cut off anywhere goes on, and comes out as if nothing had happened."""

import hashlib
import json
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import replace

import av
import numpy as np
import pytest
import toy as toy_script
from test_bad_input import started
from test_jobs import names

from srpipe import jobs
from srpipe.errors import (
    Cancelled,
    ConfigError,
    DeviceError,
    MediaError,
    TargetError,
    TruncatedError,
)
from srpipe.io import video_source
from srpipe.io.video_pieces import PieceSink
from srpipe.io.video_source import VideoSource
from srpipe.jobs import video
from srpipe.jobs.enlarge import Enlarger
from srpipe.jobs.shots import Shots
from srpipe.jobs.target import part_of
from srpipe.jobs.video import VideoWorker
from srpipe.settings import RunSettings

CELL, FRAMES = 12, 50
FAST = (("preset", "ultrafast"),)


def long_clip(path, frames=400, size=(16, 32), drift=0, **options):
    """A video of moving stripes at uneven times, with B-frames; it may grow brighter."""
    settings = {"g": "10", "bf": "2", "preset": "ultrafast"} | options
    rows, columns = np.mgrid[: size[0] * 3 // 2, : size[1]]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options=settings)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            stripes = (columns + 3 * rows + 5 * i) % (180 - drift * frames)
            picture = (stripes + drift * i + 30).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = i + i // 7
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def decoded(path):
    """Times and hashes of all frames."""
    with av.open(str(path)) as file:
        return [
            (frame.pts * frame.time_base, hashlib.sha256(frame.to_ndarray()).hexdigest())
            for frame in file.decode(video=0)
        ]


@pytest.fixture
def settings(toy):
    return lambda **values: RunSettings(
        **{"model": "toy", "weights": toy, "perception": 0.0, "options": FAST} | values
    )


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A video of five units, in cells that are shorter than true ones."""
    for module in ("srpipe.io.video_pieces", "srpipe.jobs.video"):
        monkeypatch.setattr(f"{module}.CELL", CELL)
    return long_clip(tmp_path / "in.mp4", frames=FRAMES)


def pieces(target):
    return sorted(path.stem for path in part_of(target).glob("*.piece"))


def test_who_stops_it_while_pieces_are_joined_hears_that_all_are_kept(
    tmp_path, source, settings, monkeypatch
):
    stop, verify = threading.Event(), video.verify

    def looked(*args):
        stop.set()
        return verify(*args)

    monkeypatch.setattr(video, "verify", looked)
    with pytest.raises(Cancelled, match="50 of 50 frames are kept, and the same command goes on"):
        jobs.upscale(source, tmp_path / "out.mp4", settings(), cancelled=stop)
    assert not (tmp_path / "out.mp4").exists()
    done = jobs.upscale(source, tmp_path / "out.mp4", settings())
    assert done.checked["frames"] == FRAMES


class Power(BaseException):
    """Stands for a power cut."""


def cut_off(monkeypatch, after):
    """Let nothing be written after so many frames."""
    write, count = PieceSink.write, [0]

    def counted(self, frame):
        count[0] += 1
        if count[0] > after:
            raise Power
        write(self, frame)

    monkeypatch.setattr(PieceSink, "write", counted)
    return count


def test_what_is_odd_about_frames_is_said_once_with_its_number(
    tmp_path, source, settings, monkeypatch
):
    bare = long_clip(tmp_path / "in.h264", frames=FRAMES)
    result = jobs.upscale(bare, tmp_path / "a.mkv", settings())
    said = [text for text in result.notices if "without a time" in text]
    assert [text.rpartition(": ")[2] for text in said] == [str(FRAMES)]
    taken = VideoSource._frame

    def frame(self, *args):
        made = taken(self, *args)
        if made.pts * made.time_base * 25 >= 20:
            self._note("odd: {n}")
        return made

    monkeypatch.setattr(VideoSource, "_frame", frame)
    odd = sum(i + i // 7 >= 20 for i in range(FRAMES))
    result = jobs.upscale(source, tmp_path / "b.mp4", settings(segment=1))
    assert f"odd: {odd}" in result.notices


def test_damage_that_costs_no_frame_is_told_of(tmp_path, source, settings, monkeypatch):
    taken = VideoSource._frame

    def frame(self, *args):
        made = taken(self, *args)
        if self.frames_read == 20:
            self._damage("a part is bad")
        return made

    monkeypatch.setattr(VideoSource, "_frame", frame)
    result = jobs.upscale(source, tmp_path / "a.mp4", settings(allow_truncated=True))
    assert (result.status, result.frames) == ("truncated", FRAMES)


@pytest.mark.parametrize("segment", [1, 13, 30, 100000])
def test_the_frames_do_not_depend_on_the_segment(tmp_path, source, settings, segment):
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    other = jobs.upscale(source, tmp_path / "other.mp4", settings(segment=segment))
    assert decoded(other.target) == decoded(whole.target)
    assert len(decoded(other.target)) == FRAMES


def test_nor_do_they_where_the_tiles_of_a_shot_share_the_statistics_of_its_first_frame(
    tmp_path, source, settings, monkeypatch
):
    source = long_clip(source, frames=FRAMES, drift=2)
    weights = toy_script.install(tmp_path / "weights", gated=True)
    tiled = settings(weights=weights, tile=8)
    whole = jobs.upscale(source, tmp_path / "whole.mp4", tiled)
    other = jobs.upscale(source, tmp_path / "other.mp4", replace(tiled, segment=13))
    assert decoded(other.target) == decoded(whole.target)
    with monkeypatch.context() as patch:
        cut_off(patch, after=2 * CELL + 5)
        with pytest.raises(Power):
            jobs.upscale(source, tmp_path / "late.mp4", tiled)
    late = jobs.upscale(source, tmp_path / "late.mp4", tiled)
    assert decoded(late.target) == decoded(whole.target)
    monkeypatch.setattr(Shots, "__call__", lambda *_: None)  # each frame by itself
    apart = jobs.upscale(source, tmp_path / "apart.mp4", tiled)
    assert decoded(apart.target) != decoded(whole.target)


def test_a_run_that_was_cut_off_goes_on_where_it_was(tmp_path, source, settings, monkeypatch):
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        cut_off(patch, after=31)
        with pytest.raises(Power):
            jobs.upscale(source, target, settings())
    assert pieces(target) == ["00000000-00000012", "00000012-00000024"]
    assert not target.exists()
    with monkeypatch.context() as patch:
        count = cut_off(patch, after=10**6)
        result = jobs.upscale(source, target, settings(segment=25))
        assert count[0] == FRAMES - 24
    assert result.frames == FRAMES
    assert decoded(target) == decoded(whole.target)
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"crf": 30}, r"setting crf \(none then, 30 now\)"),
        ({"perception": 1.0}, r"perception \(0.0 then, 1.0 now\)"),
        ({"options": (("preset", "fast"),)}, "setting options"),
        ({"blend": "hann"}, r"setting blend \(auto then, hann now\)"),
        ("weights", "weights"),
        ("input", "input"),
    ],
)
def test_another_setting_model_or_input_is_refused_and_named(
    tmp_path, source, settings, monkeypatch, changed, words
):
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        cut_off(patch, after=13)
        with pytest.raises(Power):
            jobs.upscale(source, target, settings())
    values = changed if isinstance(changed, dict) else {}
    if changed == "input":
        long_clip(source, frames=FRAMES - 1)
    if changed == "weights":
        values = {"weights": toy_script.install(tmp_path / "weights", sleep_s=0.0001)}
        path = tmp_path / "weights" / "toy-lite-x2-fidelity.json"
        card = json.loads(path.read_text())
        other = {"toy-lite-x2-other.safetensors": next(iter(card["files"].values()))}
        shutil.copy(path.parent / next(iter(card["files"])), path.parent / next(iter(other)))
        path.write_text(json.dumps(card | {"files": other}))
    with pytest.raises(ConfigError, match=rf"another {words}.*--restart"):
        jobs.plan(source, target, settings(**values))
    assert pieces(target) == ["00000000-00000012"], "nothing finished is deleted"
    result = jobs.upscale(source, target, settings(restart=True, **values))
    assert result.status == "done"


def test_a_piece_that_was_damaged_is_made_anew(tmp_path, source, settings, monkeypatch):
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        cut_off(patch, after=25)
        with pytest.raises(Power):
            jobs.upscale(source, target, settings())
    piece = part_of(target) / "00000012-00000024.piece"
    data = bytearray(piece.read_bytes())
    data[len(data) // 2] ^= 1
    piece.write_bytes(data)
    count = cut_off(monkeypatch, after=10**6)
    jobs.upscale(source, target, settings())
    assert count[0] == FRAMES - 12
    assert decoded(target) == decoded(whole.target)


def test_a_job_that_is_all_done_is_only_joined(tmp_path, source, settings, monkeypatch):
    target = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(jobs.video, "verify", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jobs.upscale(source, target, settings())
    monkeypatch.setattr(jobs.video.VideoWork, "begun", lambda *_: 1 / 0)
    assert jobs.upscale(source, target, settings()).checked["frames"] == FRAMES
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


# --- faults ------------------------------------------------------------------------------------


def spoiled(path, number):
    """The same video with one packet that no decoder takes."""
    bad = path.with_name("bad.mp4")
    with av.open(str(path)) as old, av.open(str(bad), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for at, packet in enumerate(p for p in old.demux() if p.size):
            made = av.Packet(b"\0\0\0\1\x65" if at == number else bytes(packet))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.is_keyframe, made.stream = packet.is_keyframe, stream
            new.mux_one(made)
    return bad


@pytest.mark.parametrize("packet", [0, 16, 40])
def test_a_packet_that_cannot_be_decoded_costs_its_unit_alone(tmp_path, source, settings, packet):
    bad, target = spoiled(source, packet), tmp_path / "out.mp4"
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    if packet == 0:  # what cannot be read at all leaves nothing
        with pytest.raises(MediaError, match="no frame"):
            jobs.upscale(bad, target, settings())
        assert not part_of(target).exists()
        return
    with pytest.raises(TruncatedError, match=r"[12] of 5 units failed, .*; the others") as error:
        jobs.upscale(bad, target, settings())
    assert "bad.mp4" in str(error.value)
    assert len(pieces(target)) >= 3, "the next one may be decoded by way of the same packet"
    result = jobs.upscale(bad, target, settings(allow_truncated=True))
    assert result.status == "truncated"
    assert FRAMES - 10 < result.frames < FRAMES
    truth = dict(decoded(whole.target))
    assert all(truth.get(when) == what for when, what in decoded(target)[:12])


@pytest.mark.parametrize("fault", ["memory", "nan"])
def test_a_network_that_fails_on_one_frame_costs_one_unit(
    tmp_path, source, settings, monkeypatch, fault
):
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    target, forward, calls = tmp_path / "out.mp4", toy_script.Toy.forward, [0]

    def broken(self, x):
        calls[0] += 1
        if calls[0] == 18 and fault == "memory":
            raise MemoryError
        y = forward(self, x)
        return y * float("nan") if calls[0] == 18 else y

    with monkeypatch.context() as patch:
        patch.setattr(toy_script.Toy, "forward", broken)
        with pytest.raises(DeviceError, match="1 of 5 units failed, 00000012-00000024 first"):
            jobs.upscale(source, target, settings(tile=64))
    jobs.upscale(source, target, settings(tile=64))
    assert decoded(target) == decoded(whole.target)


@pytest.mark.parametrize(
    ("stage", "named"), [("decode", 36), ("infer", 12), ("encode", 12), ("close", 12)]
)
def test_memory_that_runs_out_costs_one_unit_in_whatever_stage(
    tmp_path, source, settings, monkeypatch, stage, named
):
    """Only in the network it did; elsewhere it ended the job with a traceback."""
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    target, calls = tmp_path / "out.mp4", [0]
    place, name, at = {
        "decode": (VideoWorker, "frames", 4),
        "infer": (Enlarger, "_laid_out", 19),
        "encode": (PieceSink, "write", 19),
        "close": (PieceSink, "close", 2),
    }[stage]
    way = getattr(place, name)

    def full(self, *args):
        calls[0] += 1
        if calls[0] == at:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
        return way(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(DeviceError, match=f"1 of 5 units failed, {named:08}-.*can't allocate"):
            jobs.upscale(source, target, settings())
    assert len(pieces(target)) == 4
    jobs.upscale(source, target, settings())
    assert decoded(target) == decoded(whole.target)


def test_memory_that_runs_out_in_a_decoder_is_no_damage_to_the_file(
    tmp_path, source, settings, monkeypatch
):
    """With --allow-truncated the rest of the video was left out as if it had been damaged."""
    target, decoder = tmp_path / "out.mp4", video_source._decoder

    class Full:
        def __init__(self, stream):
            self.decoder, self.left = decoder(stream), 20

        def decode(self, packet):
            self.left -= 1
            if not self.left:
                raise av.error.MemoryError(12, "Cannot allocate memory")
            return self.decoder.decode(packet)

    with monkeypatch.context() as patch:
        patch.setattr(video_source, "_decoder", Full)
        with pytest.raises(DeviceError, match="Cannot allocate memory"):
            jobs.upscale(source, target, settings(allow_truncated=True))
    result = jobs.upscale(source, target, settings(allow_truncated=True))
    assert (result.status, result.frames) == ("done", FRAMES)


@pytest.mark.parametrize("after", [6, 19, 49])
def test_a_disk_that_fills_up_keeps_what_is_done(tmp_path, source, settings, monkeypatch, after):
    whole = jobs.upscale(source, tmp_path / "whole.mp4", settings())
    target, write, count = tmp_path / "out.mp4", PieceSink.write, [0]

    def full(self, frame):
        count[0] += 1
        if count[0] > after:
            raise OSError(28, "No space left on device")
        write(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(PieceSink, "write", full)
        with pytest.raises(TargetError, match="No space left on device; make room"):
            jobs.upscale(source, target, settings())
    assert len(pieces(target)) == after // CELL
    assert part_of(target).exists() == (after >= CELL)
    assert not list(tmp_path.glob("**/*.part/*.part"))
    jobs.upscale(source, target, settings())
    assert decoded(target) == decoded(whole.target)


def test_an_encoder_that_fails_keeps_what_is_done(tmp_path, source, settings, monkeypatch):
    target, encode = tmp_path / "out.mp4", PieceSink._encode
    calls = [0]

    def broken(self, frame):
        calls[0] += 1
        if calls[0] == 19:
            raise TargetError("the encoder fails")
        encode(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(PieceSink, "_encode", broken)
        with pytest.raises(TargetError, match="the encoder fails"):
            jobs.upscale(source, target, settings())
    assert pieces(target) == ["00000000-00000012"]
    assert jobs.upscale(source, target, settings()).checked["frames"] == FRAMES


@pytest.mark.parametrize("step", ["os.replace", "os.fsync"])
def test_a_fault_while_the_result_is_published_publishes_nothing(
    tmp_path, source, settings, monkeypatch, step
):
    target = tmp_path / "out.mp4"
    true = getattr(os, step.removeprefix("os."))

    def refuse(*names):
        if any(str(name).endswith("whole") for name in names) or step == "os.fsync":
            raise OSError(5, "Input/output error")
        return true(*names)

    with monkeypatch.context() as patch:
        patch.setattr(step, refuse)
        with pytest.raises(TargetError, match="Input/output error"):
            jobs.upscale(source, target, settings())
    assert not target.exists()
    assert jobs.upscale(source, target, settings()).checked["frames"] == FRAMES


# --- in a process of its own -------------------------------------------------------------------


@pytest.mark.slow
def test_kill_9_at_random_points_loses_no_finished_work(toy, tmp_path, tmp_path_factory):
    long_clip(tmp_path / "a.mp4")
    weights = toy_script.install(tmp_path_factory.mktemp("slow"), sleep_s=0.01)
    target, rng = tmp_path / "a_toy_x2.mp4", random.Random(1)
    kept = []
    for _ in range(4):
        command = started(tmp_path, weights, "a.mp4", "--perception", "0")
        before = len(pieces(target))
        while len(pieces(target)) == before and command.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.random())
        command.send_signal(signal.SIGKILL)
        command.communicate()
        if target.exists():  # it was done before
            break
        kept.append(len(pieces(target)))
    assert kept == sorted(kept)
    assert target.exists() or kept[-1] >= 4
    command = started(tmp_path, weights, "a.mp4", "--perception", "0")
    assert command.wait() == 0
    command.communicate()
    whole = jobs.upscale(
        tmp_path / "a.mp4",
        tmp_path / "whole.mp4",
        RunSettings(model="toy", weights=weights, perception=0.0),
    )
    assert decoded(target) == decoded(whole.target)
    assert names(tmp_path) == ["a.mp4", "a_toy_x2.mp4", "whole.mp4"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_is_killed_while_the_result_gets_its_name_leaves_nothing_for_ever(
    tmp_path, source, settings, monkeypatch, when
):
    replaced, target = os.replace, tmp_path / "out.mp4"

    def cut_off(old, new):
        if new != target or when == "after":
            replaced(old, new)
        if new == target:
            raise Power

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(Power):
            jobs.upscale(source, target, settings())
    assert len(pieces(target)) == 5
    again = jobs.upscale(source, target, settings())
    assert again.status == ("skipped" if when == "after" else "done")
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_ctrl_c_keeps_what_is_done_and_says_so(tmp_path, tmp_path_factory):
    long_clip(tmp_path / "a.mp4")
    weights = toy_script.install(tmp_path_factory.mktemp("slow"), sleep_s=0.01)
    command = started(tmp_path, weights, "a.mp4")
    target = tmp_path / "a_toy_x2.mp4"
    while not pieces(target) and command.poll() is None:
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate()
    assert command.returncode == 130
    assert len(err.splitlines()) == 1
    assert "stopped" in err
    assert "the same command goes on" in err
    assert pieces(target)
