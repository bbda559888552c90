"""Each through the real command: one line that says what to do, its exit code, nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import toy as toy_script
from test_cli import draw
from test_jobs import clip, names

from srpipe.cli import main
from srpipe.io.video_pieces import PieceSink

HERE = Path(__file__).parent


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def front_loaded(path, frames=20):
    """An mp4 that can be read up to where it is cut: its index stands at the start."""
    whole = clip(path.with_name("whole.mp4"), frames=frames)
    with (
        av.open(str(whole)) as old,
        av.open(str(path), "w", options={"movflags": "+faststart"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    whole.unlink()
    return path


def sound_only(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 8000, 0
        for out in (frame, None):
            file.mux(stream.encode(out))


INPUTS = {
    "missing file": ("a.mp4", lambda p: None, "no"),
    "missing picture": ("a.png", lambda p: None, "does not exist; check the name"),
    "empty video": ("a.mp4", lambda p: p.touch(), "is empty"),
    "empty picture": ("a.png", lambda p: p.touch(), "is empty"),
    "text named mp4": ("a.mp4", lambda p: p.write_text("hello " * 99), ""),
    "text named png": ("a.png", lambda p: p.write_text("hello"), "is not the PNG file its name"),
    "truncated png": ("a.png", lambda p: (draw(p), cut(p, 0.6)), "ends before its last line"),
    "mp4 without its index": ("a.mp4", lambda p: (clip(p), cut(p, 0.6)), ""),
    "truncated mp4": ("a.mp4", lambda p: cut(front_loaded(p), 0.7), "truncated"),
    "sound only": ("a.mp4", sound_only, "no video"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_that_cannot_be_read(run, tmp_path, case):
    name, make, message = INPUTS[case]
    make(tmp_path / name)
    before = names(tmp_path)
    code, out, err = run(name)
    assert code == 1
    assert out == []
    assert len(err) == 1
    assert err[0].startswith("srpipe: error: ")
    assert name in err[0]
    assert message in err[0]
    assert names(tmp_path) == before


def test_a_truncated_video_is_delivered_where_that_is_allowed(run, tmp_path):
    cut(front_loaded(tmp_path / "a.mp4"), 0.7)
    code, out, _ = run("a.mp4", "--allow-truncated")
    assert code == 4
    with av.open("a_toy_x2.mp4") as file:
        frames = sum(1 for _ in file.decode(video=0))
    assert 0 < frames < 20
    assert out[-1] == f"  the input is damaged: {frames} frames could be read, all are there"
    assert names(tmp_path) == ["a.mp4", "a_toy_x2.mp4"]


def test_a_truncated_video_is_not_measured_as_if_it_were_whole(tmp_path, toy, capsys):
    cut(front_loaded(tmp_path / "a.mp4"), 0.7)
    words = ["eval", str(tmp_path / "a.mp4"), "-m", "toy", "--weights", str(toy)]
    assert main(words) == 1
    seen = capsys.readouterr()
    assert "truncated" in seen.err
    assert not seen.out


def test_an_undamaged_video_is_not_called_truncated(run):
    front_loaded(Path("a.mp4"))
    assert run("a.mp4", "--allow-truncated")[0] == 0


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_weights_that_are_not_what_their_card_says(run, toy, tmp_path, what):
    draw("a.png")
    file = toy / "toy-lite-x2-perception.safetensors"
    if what == "damaged":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    code, out, err = run("a.png")
    assert code == 1
    assert out == []
    assert len(err) == 1
    assert "toy-lite-x2-perception.safetensors" in err[0]
    assert names(tmp_path) == ["a.png"]
    assert run("verify", "--weights", str(toy), command="models")[0] == 1


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/such/out.png", "the folder no/such does not exist; make it"),
        ("a.png/out.png", "a.png is a file, so nothing can be written below it"),
        ("a.png/deep/", "a.png is a file, so nothing can be written below it"),
        (f"{'x' * 300}.png", "File name too long"),
    ],
)
def test_a_place_where_nothing_can_be_written(run, tmp_path, output, message):
    draw("a.png")
    code, out, err = run("a.png", "-o", output)
    assert (code, out) == (1, [])
    assert len(err) == 1
    assert message in err[0]
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_no_permission_to_write(run, tmp_path, monkeypatch, name):
    (draw if name == "a.png" else clip)(name)
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, out, err = run(name)
    assert (code, out, len(err)) == (1, [], 1)
    assert "takes no files from you" in err[0]
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_permission_that_is_lost_on_the_way(run, tmp_path, monkeypatch, name):
    (draw if name == "a.png" else clip)(name)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    code, out, err = run(name)
    assert (code, out, len(err)) == (1, [], 1)
    assert "cannot be written: Permission denied" in err[0]
    assert names(tmp_path) == [name]


def test_a_sink_that_runs_out_of_room(run, tmp_path, monkeypatch):
    clip("a.mp4")

    def refuse(self, frame):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PieceSink, "write", refuse)
    code, out, err = run("a.mp4")
    assert (code, out, len(err)) == (1, [], 1)
    assert "No space left on device; make room" in err[0]
    assert names(tmp_path) == ["a.mp4"]


# --- in a process of its own -------------------------------------------------------------------


def started(folder, weights, *words, more=None, **options):
    return subprocess.Popen(
        [sys.executable, HERE / "toy.py", "upscale", "-m", "toy", "--weights", weights, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"} | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def few_bytes():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_file_that_may_not_grow(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw("a.png")
    clip("b.mp4", frames=20, size=(160, 160))
    command = started(tmp_path, toy, "a.png", "b.mp4", "--overwrite", preexec_fn=few_bytes)
    _, err = command.communicate()
    lines = err.splitlines()
    assert command.returncode in (1, 3)
    assert "Traceback" not in err
    assert any("b_toy_x2.mp4" in line and "srpipe: error: " in line for line in lines)
    assert names(tmp_path) in (["a.png", "b.mp4"], ["a.png", "a_toy_x2.png", "b.mp4"])


@pytest.mark.parametrize(("name", "sleep_s"), [("a.mp4", 0.1), ("a.mp4", 20), ("a.png", 20)])
def test_ctrl_c_ends_at_once_and_leaves_nothing(tmp_path, tmp_path_factory, name, sleep_s):
    weights = toy_script.install(tmp_path_factory.mktemp("weights"), sleep_s=sleep_s)
    (draw if name == "a.png" else clip)(tmp_path / name, *[40] * (name == "a.mp4"))
    command = started(tmp_path, weights, name)
    part = tmp_path / f"a_toy_x2{name[1:]}.part"
    while not part.exists() and command.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)  # into the network
    began = time.monotonic()
    command.send_signal(signal.SIGINT)
    _, err = command.communicate()
    assert command.returncode == 130
    assert time.monotonic() - began < 5  # one where nothing else runs; the call takes 20
    assert len(err.splitlines()) == 1
    assert "stopped" in err
    assert names(tmp_path) == [name]


def test_ctrl_c_with_workers_says_no_more_than_that(tmp_path, tmp_path_factory):
    """A warning of leaked semaphores came after it."""
    weights = toy_script.install(tmp_path_factory.mktemp("weights"), sleep_s=1)
    (tmp_path / "in").mkdir()
    draw(*(tmp_path / "in" / f"{number}.png" for number in range(9)))
    preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": str([str(HERE / "toy_worker.py")])}
    words = ("in", "-o", "out", "--workers", "2")
    command = started(tmp_path, weights, *words, more=preload)
    while not (tmp_path / "out" / "0.png").exists() and command.poll() is None:
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate()
    assert command.returncode == 130
    (line,) = err.splitlines()
    assert line.startswith("srpipe: error: stopped; ")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("upscale", ["locked", "-o", "out"]),
        ("upscale", ["locked/a.png"]),
        ("upscale", ["locked/%05d.png"]),
        ("eval", ["locked", "locked"]),
        ("eval", ["locked/a.png", "locked/a.png"]),
        ("models", ["--weights=locked"]),
    ],
)
def test_what_may_not_be_read_is_one_line(run, locked, command, words):
    code, out, err = run(*words, command=command)
    assert (code, out, len(err)) == (1, [], 1)
    what = words[0].removeprefix("--weights=").removesuffix("/%05d.png")
    assert err[0].startswith(f"srpipe: error: {what} cannot be read")
    assert "Permission denied" in err[0]


LONG = "n" * 300


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("upscale", [LONG]),
        ("upscale", [f"{LONG}.zarr", "-o", "out"]),
        ("upscale", [f"{LONG}/", "-o", "out"]),
        ("upscale", [f"{LONG}/%05d.png"]),
        ("eval", [LONG, LONG]),
        ("models", ["--weights", LONG]),
    ],
)
def test_a_name_that_no_file_can_have_is_one_line(run, command, words):
    code, out, err = run(*words, command=command)
    assert (code, out, len(err)) == (1, [], 1)
    assert LONG in err[0]
