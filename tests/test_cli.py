import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_jobs import clip, names, noise

import srpipe
from srpipe import __version__, cli
from srpipe.cli import main
from srpipe.show import Show


def draw(*names):
    for name in names:
        Image.fromarray(noise((9, 7, 3))).save(name)


def test_help_comes_without_the_libraries_that_take_long():
    code = (
        "import sys; from srpipe.cli import _parser; _parser().format_help();"
        "print({'torch', 'numpy', 'av', 'PIL', 'tqdm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_every_public_name_is_there():
    for name in srpipe.__all__:
        assert getattr(srpipe, name) is not None
    with pytest.raises(AttributeError, match="upscal"):
        srpipe.upscal  # noqa: B018 - looking it up is the test


def test_version_and_help(capsys):
    for words, seen in [(["--version"], f"srpipe {__version__}"), (["upscale", "-h"], "--crf")]:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
        assert seen in capsys.readouterr().out


def test_a_summary_says_what_was_done(run):
    clip("in.mp4")
    code, out, err = run("in.mp4")
    assert code == 0
    assert all(line.startswith("srpipe: notice: ") for line in err)
    assert out[0] == "in.mp4 -> in_toy_x2.mp4"
    assert out[1].startswith("  5 frames, 48 x 32 -> 96 x 64, ")
    assert "limited by: " in out[1]
    assert out[2] == "  toy-lite-x2, perception 1, fp32 on cpu"


def test_json_is_one_event_a_line_and_nothing_else(run):
    clip("in.mp4")
    code, out, _ = run("in.mp4", "--json", "--perception", "0")
    assert code == 0
    events = [json.loads(line) for line in out]
    assert events[0]["event"] == "plan"
    assert {event["event"] for event in events[1:-1]} == {"progress"}
    assert events[-2]["done"] == events[-2]["of"] == 5
    done = events[-1]
    assert (done["event"], done["status"], done["frames"]) == ("done", "done", 5)
    assert (done["source"], done["target"]) == ("in.mp4", "in_toy_x2.mp4")
    assert (done["size_after"], done["perception"]) == ([64, 96], 0)


def test_quiet_prints_nothing(run):
    draw("in.png")
    assert run("in.png", "--quiet") == (0, [], [])


def test_a_dry_run_says_the_plan_and_writes_nothing(run, tmp_path):
    draw("in.png")
    clip("in.mp4")
    code, out, err = run("in.png", "in.mp4", "--dry-run", "-o", "new/")
    assert (code, err) == (0, [])
    assert out[0] == "in.png -> new/in_toy_x2.png"
    assert out[1] == "  7 x 9 -> 14 x 18, 1 frame"
    assert out[3] == "in.mp4 -> new/in_toy_x2.mp4"
    code, out, _ = run("in.png", "--dry-run", "--json")
    assert json.loads(out[0])["size_after"] == [18, 14]
    assert names(tmp_path) == ["in.mp4", "in.png"]


def test_the_second_time_it_is_skipped(run):
    draw("in.png")
    assert run("in.png")[0] == 0
    code, out, _ = run("in.png")
    assert code == 0
    assert out == ["in_toy_x2.png exists: skipped; --overwrite replaces it"]


def test_many_inputs_go_on_after_one_that_fails(run, tmp_path):
    draw("a.png", "c.png")
    code, _, err = run("a.png", "b.png", "c.png", "-o", "out/")
    assert code == 3
    assert names(tmp_path / "out") == ["a_toy_x2.png", "c_toy_x2.png"]
    assert err == [
        "srpipe: error: b.png does not exist; check the name",
        "srpipe: 1 of 3 inputs failed",
    ]
    assert run("b.png", "d.png")[0] == 1


@pytest.mark.parametrize("first", [0, 1])
def test_no_input_is_written_over(run, tmp_path, first):
    draw("a.png", "a_toy_x2.png")
    held = (tmp_path / "a_toy_x2.png").read_bytes()
    given = ["a.png", "a_toy_x2.png"] if first else ["a_toy_x2.png", "a.png"]
    code, _, err = run(*given, "--overwrite")
    assert code == 3
    assert "a.png would become a_toy_x2.png, which is an input too" in err[-2]
    assert (tmp_path / "a_toy_x2.png").read_bytes() == held
    assert run(*given)[0] == 0  # it is there and stays


def test_two_inputs_with_one_name_do_not_pass_for_done(run, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    draw("one/a.png", "two/a.png")
    code, _, err = run("one/a.png", "two/a.png", "-o", "out/")
    assert code == 3
    assert err[0] == (
        "srpipe: error: two/a.png and one/a.png would both become out/a_toy_x2.png; rename one"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--persepton", "1"], "there is no option --persepton; did you mean '--perc"),
        (["a.png", "--perception", "2"], "perception 2 is off the dial"),
        (["a.png", "--tile", "big"], "'big' is neither a whole number nor auto"),
        (["a.png", "-s", "0.5"], "a scale of 0.5 enlarges nothing; use 2 or more"),
        (["a.png", "--size", "2x2"], "2x2 is smaller than the source, which has"),
        (["a.png", "-m", "toi"], "there is no model 'toi'; did you mean 'toy"),
        (["a.png", "b.png", "-o", "c.png"], "-o c.png is one file for 2 inputs"),
        (["a.png", "-o", "a.mp4"], "a.mp4 is no name for a picture"),
        (["a.png", "-o", "a.png"], "a.png is the input itself"),
        (["a.png", "-o", ""], "the output's name is empty"),
        ([], "the following arguments are required: INPUT"),
    ],
)
def test_a_mistake_in_use_is_one_line_and_2(run, tmp_path, words, message):
    draw("a.png", "b.png")
    code, out, err = run(*words)
    assert code == 2
    assert out == []
    assert len(err) == 1
    assert err[0].startswith(f"srpipe: error: {message}") or message in err[0]
    assert names(tmp_path) == ["a.png", "b.png"]


def test_perception_reaches_the_network(run):
    Image.fromarray(np.full((4, 4, 3), 200, np.uint8)).save("in.png")
    for dial, value in [("0", 200), ("0.5", 150), ("1", 100)]:
        assert run("in.png", "--perception", dial, "-o", f"{dial}.png")[0] == 0
        with Image.open(f"{dial}.png") as image:
            assert np.unique(np.array(image)) == [value]


def test_models_are_listed_described_and_verified(run, toy):
    here = ("--weights", str(toy))
    code, out, _ = run(*here, command="models")
    assert code == 0
    assert out[0].split() == [
        *("toy-lite-x2", "x2", "1", "parameters", "fidelity", "+", "perception"),
        *("(--model", "toy)"),
    ]
    code, out, _ = run("list", "--json", *here, command="models")
    assert json.loads(out[0])[0]["stages"] == ["fidelity", "perception"]
    code, out, _ = run("info", "toy", "--json", *here, command="models")
    assert json.loads("".join(out))["fidelity"]["family"] == "toy"
    code, out, _ = run("info", "toy", *here, command="models")
    assert out[0] == "toy-lite-x2: this file"
    assert [line.split() for line in out if "parameters" in line] == [["parameters", "1"]] * 2
    code, out, _ = run("verify", *here, command="models")
    assert (code, out[0]) == (0, "toy-lite-x2-fidelity: good")
    assert run("info", "toi", *here, command="models")[0] == 2
    assert run("info", *here, command="models")[0] == 2


@pytest.mark.parametrize("what", ["list", "verify"])
@pytest.mark.parametrize(
    ("folder", "message"),
    [("empty", "empty holds no weights"), ("nowhere", "nowhere is no folder")],
)
def test_a_folder_without_weights_does_not_pass_for_good_ones(run, tmp_path, what, folder, message):
    (tmp_path / "empty").mkdir()
    code, out, err = run(what, "--weights", folder, command="models")
    assert (code, out, len(err)) == (1, [], 1)
    assert message in err[0]


def test_info_names_device_precision_and_libraries(run):
    code, out, _ = run("--json", command="info")
    assert code == 0
    facts = json.loads(out[0])
    assert facts["srpipe"] == __version__
    assert facts["precision"] in ("fp32", "bf16", "fp16")
    assert run(command="info")[1][0].split() == ["srpipe", __version__]


@pytest.fixture
def unread():
    """A standard output that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as file:
        yield file


def test_an_output_that_nobody_reads_does_not_stop_the_work(run, monkeypatch, unread, tmp_path):
    draw("a.png", "b.png")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", unread)
        code, _, err = run("a.png", "b.png", "-o", "out/")
    assert (code, err) == (0, [])
    assert names(tmp_path / "out") == ["a_toy_x2.png", "b_toy_x2.png"]


def test_an_output_that_nobody_reads_ends_a_list_quietly(run, toy, monkeypatch, unread):
    monkeypatch.setattr(sys, "stdout", unread)
    assert run("--weights", str(toy), command="models")[::2] == (0, [])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_an_output_on_a_full_disk_is_one_line(run, toy, monkeypatch, tmp_path):
    draw("a.png", "b.png")
    message = "srpipe: error: standard output cannot be written: No space left on device"
    for words, command, wanted in [
        (("--weights", str(toy)), "models", 1),
        (("a.png", "b.png", "-o", "out/"), "upscale", 0),
    ]:
        with open("/dev/full", "w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            code, _, err = run(*words, command=command)
        assert (code, err) == (wanted, [message])
    assert len(names(tmp_path / "out")) == 2


def test_a_file_whose_name_is_no_text_can_be_named(run, monkeypatch):
    name = os.fsdecode(b"in\xff.png")
    draw(name)
    seen = io.BytesIO()
    with monkeypatch.context() as patch:
        strict = io.TextIOWrapper(seen, "utf-8", errors="strict")
        patch.setattr(sys, "stdout", strict)
        assert run(name)[0] == 0
    assert seen.getvalue().startswith(b"in\\udcff.png -> in\\udcff_toy_x2.png\n")


def test_ctrl_c_in_a_short_command_is_one_line(run, monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("srpipe.cli._facts", stopped)
    assert run(command="info") == (130, [], ["srpipe: error: stopped"])


def test_a_run_that_is_cut_off_leaves_no_folder_that_was_made_for_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("os._exit", sys.exit)
    show = Show(as_json=False, quiet=False)
    part = tmp_path / "new" / "deep" / "a.png.part"
    show.began([part])
    part.mkdir(parents=True)
    (part / "lock").touch()
    with pytest.raises(SystemExit):
        cli._leave(show)
    assert names(tmp_path) == []
    assert "nothing is left" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_stops_the_work_unless_it_was_started_with_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert signal.SIGHUP in cli._signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert signal.SIGHUP not in cli._signals()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_bug_keeps_its_traceback(run, monkeypatch):
    draw("in.png")
    monkeypatch.setattr("srpipe.io.image.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("in.png")


def test_a_dry_run_says_what_memory_would_not_hold(run):
    draw("a.png")
    for words in (["--dry-run"], []):
        code, out, err = run("a.png", "--size", "1200000x900000", *words)
        assert (code, out, len(err)) == (1, [], 1)
        assert "a picture of 1200000 x 900000 px needs about 40233.1 GiB of memory" in err[0]


def test_a_folder_that_has_the_name_of_the_result_is_told_before_the_work(run):
    draw("a.png")
    Path("a_toy_x2.png").mkdir()
    for words in (["--dry-run"], [], ["--overwrite"]):
        code, out, err = run("a.png", *words)
        assert (code, out, len(err)) == (1, [], 1)
        assert "a_toy_x2.png is a folder, and a file is to have its name; rename it" in err[0]
    assert names(Path()) == ["a.png", "a_toy_x2.png"]
