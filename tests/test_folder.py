"""A folder of pictures into another one: mirrored, kept, mended."""

import errno
import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import toy as network
from PIL import Image
from test_cli import draw
from test_jobs import clip, doubled, leave_unfinished, names, pixels_of

from srpipe.errors import Cancelled, ConfigError, DeviceError, TargetError
from srpipe.io import image
from srpipe.jobs import folder, picture
from srpipe.jobs.journal import Journal, receipts
from srpipe.settings import RunSettings

MANIFEST = folder.MANIFEST


@pytest.fixture
def settings(toy):
    def make(**values):
        return RunSettings(**{"model": "toy", "weights": toy, "perception": 0.0} | values)

    return make


@pytest.fixture
def photos(tmp_path):
    """Three pictures, one of them deeper, and what is no picture."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    draw(*(tmp_path / "in" / name for name in ("a.png", "b.png", "deep/c.png", "._a.png")))
    (tmp_path / "in" / "notes.txt").write_text("none")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def enlarged(monkeypatch):
    """The names of the pictures that were enlarged."""
    seen, run = [], picture.run

    def noted(plan, *rest, **told):
        seen.append(plan.source.name)
        return run(plan, *rest, **told)

    monkeypatch.setattr(picture, "run", noted)
    return seen


@pytest.fixture
def calls(monkeypatch):
    """How many pictures the network got at once, call by call."""
    seen, forward = [], network.Toy.forward

    def noted(self, x):
        if not x.is_meta:
            seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(network.Toy, "forward", noted)
    return seen


def files(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def lines(path):
    return path.read_text().splitlines()


def manifest(out):
    return {(x := json.loads(line))["source"]: x for line in lines(out / MANIFEST)}


def test_the_tree_is_mirrored(photos, out, settings):
    result = folder.upscale(photos, out, settings(), recursive=True)
    assert (result.files, result.done, result.failures) == (3, 3, {})
    journal = [f".srpipe/{name}" for name in ("fingerprint.json", "journal.jsonl")]
    assert files(out) == [*journal, "a.png", "b.png", "deep/c.png", MANIFEST]
    for name in ("a.png", "deep/c.png"):
        assert np.array_equal(pixels_of(out / name), doubled(pixels_of(photos / name)))


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, ["a.png", "b.png"]),
        ({"glob": "b*"}, ["b.png"]),
        ({"glob": "c*", "recursive": True}, ["deep/c.png"]),
        ({"glob": "deep/*", "recursive": True}, ["deep/c.png"]),
    ],
)
def test_a_pattern_chooses(photos, out, settings, which, found):
    folder.upscale(photos, out, settings(), **which)
    assert list(manifest(out)) == found


def small(folder, names, side=40, value=None):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels if value is None else np.full_like(pixels, value)).save(
            folder / name
        )


def test_small_pictures_of_equal_size_go_through_the_network_together(
    tmp_path, out, settings, calls
):
    photos = tmp_path / "in"
    small(photos, [f"a{i}.png" for i in range(7)])
    small(photos, ["b0.png"], side=48)
    small(photos, ["c0.png", "c1.png"])
    small(photos, ["d0.png", "d1.png"], side=200)
    result = folder.upscale(photos, out, settings())
    assert (result.done, result.failures) == (12, {})
    del calls[: calls.index(4)]  # what it costs was measured first
    assert calls == [4, 3, 1, 2, 1, 1]
    for file in photos.iterdir():
        assert np.array_equal(pixels_of(out / file.name), doubled(pixels_of(file)))


def test_a_picture_that_cannot_be_read_ends_a_batch_and_does_not_prevent_it(
    tmp_path, out, settings, calls
):
    photos = tmp_path / "in"
    small(photos, [f"a{i}.png" for i in range(6)])
    (photos / "a3.png").write_bytes((photos / "a3.png").read_bytes()[:500])
    result = folder.upscale(photos, out, settings())
    assert list(result.failures) == ["a3.png"]
    del calls[: calls.index(3)]  # what it costs was measured first
    assert calls == [3, 2]


def test_a_bad_picture_does_not_take_along_those_that_it_came_with(
    tmp_path, out, settings, monkeypatch
):
    photos = tmp_path / "in"
    small(photos, [f"a{i}.png" for i in range(6)])
    small(photos, ["a2.png"], value=255)
    (photos / "a4.png").write_bytes((photos / "a4.png").read_bytes()[:500])
    forward = network.Toy.forward
    monkeypatch.setattr(
        network.Toy,
        "forward",
        lambda self, x: forward(self, x) / (x.flatten(1).amin(1) < 1).all(),
    )
    result = folder.upscale(photos, out, settings())
    assert list(result.failures) == ["a2.png", "a4.png"]
    for name in ("a0", "a1", "a3", "a5"):
        image = f"{name}.png"
        assert np.array_equal(pixels_of(out / image), doubled(pixels_of(photos / image)))


def test_the_manifest_says_what_became_of_each_file(photos, out, settings):
    (photos / "b.png").write_bytes(b"no picture")
    folder.upscale(photos, out, settings())
    good, bad = manifest(out)["a.png"], manifest(out)["b.png"]
    about = (photos / "a.png").stat()
    assert (good["bytes"], good["modified_ns"]) == (about.st_size, about.st_mtime_ns)
    assert (good["target"], good["status"], good["model"]) == ("a.png", "done", "toy-lite-x2")
    assert good["result_bytes"] == (out / "a.png").stat().st_size
    assert set(good["weights"]) == {f"toy-lite-x2-{s}.safetensors" for s in network.GAINS}
    assert good["seconds"] >= 0
    assert bad["status"] == "failed"
    assert "is not the PNG file its name says" in bad["error"]


def test_one_bad_file_is_no_reason_to_stop_and_is_tried_again(photos, out, settings, enlarged):
    shutil.move(photos / "a.png", photos / "kept")
    (photos / "a.png").write_bytes(b"no picture")
    result = folder.upscale(photos, out, settings())
    assert (result.done, list(result.failures)) == (1, ["a.png"])
    os.replace(photos / "kept", photos / "a.png")
    result = folder.upscale(photos, out, settings())
    assert (result.done, result.kept, result.failures) == (1, 1, {})
    assert enlarged == ["b.png", "a.png"]


def test_a_file_whose_result_would_not_fit_is_a_bad_file(photos, out, settings):
    with_size = settings(size="9x9")  # the pictures are 7 x 9
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photos / "large.png")
    result = folder.upscale(photos, out, with_size)
    assert result.done == 2
    assert "smaller than the source" in str(result.failures["large.png"])


def test_a_result_that_cannot_be_written_does_not_stop_the_other_files(photos, out, settings):
    out.mkdir()
    (out / "b.png.part").write_text("not ours")
    draw(photos / "z.png")
    result = folder.upscale(photos, out, settings())
    assert (result.done, list(result.failures)) == (2, ["b.png"])
    assert manifest(out)["b.png"]["status"] == "failed"


def test_a_full_disk_stops_the_folder_and_keeps_what_is_done(photos, out, settings, monkeypatch):
    write, left = image.write, [1]

    def to_a_small_disk(part, made):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        write(part, made)

    monkeypatch.setattr(image, "write", to_a_small_disk)
    with pytest.raises(TargetError, match="No space left"):
        folder.upscale(photos, out, settings())
    monkeypatch.setattr(image, "write", write)
    assert folder.upscale(photos, out, settings()).kept == 1


def test_memory_that_runs_out_for_one_file_is_no_bug(photos, out, settings, monkeypatch):
    """It was told as one, to be reported."""
    write, calls = image.write, []

    def full(part, what):
        calls.append(part)
        if len(calls) == 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to")
        write(part, what)

    with monkeypatch.context() as patch:
        patch.setattr(image, "write", full)
        result = folder.upscale(photos, out, settings(), recursive=True)
    ((name, error),) = result.failures.items()
    assert (name, type(error)) == ("b.png", DeviceError)
    assert str(error).startswith("memory ran out at this file (DefaultCPUAllocator: not enough")
    assert (result.done, result.kept) == (2, 0)
    result = folder.upscale(photos, out, settings(), recursive=True)
    assert (result.done, result.kept) == (1, 2)


def test_a_bug_in_one_file_lets_the_others_be_done_and_keeps_its_traceback(
    run, photos, out, monkeypatch
):
    write = image.write

    def at_odds_with_a(part, made):
        write(part, made) if part.parent.name != "a.png.part" else 1 / 0

    monkeypatch.setattr(image, "write", at_odds_with_a)
    code, _, err = run("in", "-o", "out")
    assert code == 3
    assert err[0] == (
        "srpipe: error: in/a.png: ZeroDivisionError: division by zero; this is a bug, please"
        " report it"
    )
    assert err[1] == "Traceback (most recent call last):"
    assert any("at_odds_with_a" in line for line in err)
    assert (out / "b.png").exists()
    assert manifest(out)["a.png"]["status"] == "failed"


def test_a_video_that_was_replaced_while_unfinished_is_begun_anew(
    photos, out, settings, monkeypatch
):
    for module in ("srpipe.io.video_pieces", "srpipe.jobs.video"):
        monkeypatch.setattr(f"{module}.CELL", 12)
    clip(photos / "v.mp4", frames=50)
    stop = threading.Event()
    add = Journal.add

    def then_stop(self, receipt):
        add(self, receipt)
        stop.set()

    monkeypatch.setattr(Journal, "add", then_stop)
    with pytest.raises(Cancelled):
        folder.upscale(photos, out, settings(segment=12), glob="*.mp4", cancelled=stop)
    monkeypatch.setattr(Journal, "add", add)
    assert receipts(out / "v.mp4.part")
    clip(photos / "v.mp4", frames=5)
    result = folder.upscale(photos, out, settings(segment=12), glob="*.mp4")
    assert (result.done, result.failures) == (1, {})
    assert manifest(out)["v.mp4"]["frames"] == 5


def test_a_picture_in_the_place_of_an_unfinished_raster_is_made(photos, out, settings):
    """The raster's job was in the way, and nothing that was advised helped."""
    leave_unfinished(out / "a.png")
    result = folder.upscale(photos, out, settings())
    assert (result.done, result.failures) == (2, {})
    assert names(out) == [".srpipe", "a.png", "b.png", MANIFEST]


def test_what_is_finished_is_skipped_and_not_opened(photos, out, settings, enlarged):
    folder.upscale(photos, out, settings())
    for name in ("a.png", "b.png"):
        facts = (photos / name).stat()
        (photos / name).write_bytes(bytes(facts.st_size))  # to open it would be an error
        os.utime(photos / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    again = folder.upscale(photos, out, settings())
    assert (again.done, again.kept, again.failures) == (0, 2, {})
    assert manifest(out)["a.png"]["status"] == "done"
    assert enlarged == ["a.png", "b.png"]


def test_what_changed_or_is_lost_is_done_again(photos, out, settings, enlarged):
    folder.upscale(photos, out, settings())
    draw(photos / "a.png")
    os.utime(photos / "a.png", ns=(1, 1))
    (out / "b.png").unlink()
    assert folder.upscale(photos, out, settings()).done == 2
    assert enlarged == ["a.png", "b.png"] * 2


def test_a_file_whose_place_changed_is_done_again(tmp_path, out, settings, enlarged):
    """The world file beside it is what changed."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "in" / "a.tif")
    world = tmp_path / "in" / "a.tfw"
    for size in (10, 20):
        world.write_text(f"{size}\n0\n0\n-{size}\n100\n200\n")
        assert folder.upscale(tmp_path / "in", out, settings()).done == 1
    assert folder.upscale(tmp_path / "in", out, settings()).kept == 1


def test_five_hundred_finished_files_take_less_than_two_seconds(tmp_path, out, settings):
    (tmp_path / "in").mkdir()
    draw(tmp_path / "in" / "000.png")
    for number in range(1, 500):
        shutil.copy(tmp_path / "in" / "000.png", tmp_path / "in" / f"{number:03}.png")
    folder.upscale(tmp_path / "in", out, settings(), glob="000.png")
    journal = out / ".srpipe" / "journal.jsonl"
    (receipt,) = map(json.loads, lines(journal))
    result, grown = (out / "000.png").read_bytes(), []
    for unit in folder.plan(tmp_path / "in", out, settings()).units:
        (out / unit.name).write_bytes(result)
        facts = receipt["facts"] | unit.facts
        receipt |= {"unit": unit.name, "digest": unit.digest, "facts": facts}
        grown.append(json.dumps(receipt) + "\n")
    journal.write_text("".join(grown))
    began = time.process_time()
    result = folder.upscale(tmp_path / "in", out, settings())
    assert (result.files, result.kept) == (500, 500)
    assert time.process_time() - began < 2


def test_a_file_by_others_stays_unless_it_may_be_replaced(photos, out, settings):
    out.mkdir()
    (out / "a.png").write_text("mine")
    result = folder.upscale(photos, out, settings())
    assert (result.done, result.foreign) == (1, 1)
    assert (out / "a.png").read_text() == "mine"
    assert manifest(out)["a.png"]["status"] == "foreign"
    result = folder.upscale(photos, out, settings(overwrite=True))
    assert (result.done, result.kept, result.foreign) == (1, 1, 0)
    assert pixels_of(out / "a.png").shape == (18, 14, 3)


def test_other_settings_are_refused_by_name_until_a_restart(photos, out, settings, enlarged):
    folder.upscale(photos, out, settings())
    with pytest.raises(ConfigError, match=r"another perception \(0\.0 then, 1\.0 now\).*--restart"):
        folder.upscale(photos, out, settings(perception=1.0))
    assert (out / "a.png").exists()
    result = folder.upscale(photos, out, settings(perception=1.0, restart=True), glob="a.png")
    assert (result.done, enlarged) == (1, ["a.png", "b.png", "a.png"])
    said = {name: (x["status"], x["perception"]) for name, x in manifest(out).items()}
    assert said == {"a.png": ("done", 1.0), "b.png": ("outdated", 0.0)}


def test_a_restart_replaces_reports_with_their_results(photos, out, settings):
    folder.upscale(photos, out, settings(report=True))
    assert (out / "b.png.report.json").exists()
    folder.upscale(photos, out, settings(perception=1.0, restart=True), glob="a.png")
    assert {path.name[0] for path in out.glob("*.report.*")} == {"b"}


def test_a_restart_leaves_the_results_of_other_files_and_says_so(photos, out, settings, enlarged):
    """They were removed, though nothing was to be made in their place."""
    folder.upscale(photos, out, settings())
    anew = settings(perception=1.0, restart=True)
    notice = "results from before --restart stay, of 1 other files: b.png; enlarge these too, or"
    assert folder.plan(photos, out, anew, "a.png").notices[0].startswith(notice)
    result = folder.upscale(photos, out, anew, glob="a.png")
    assert result.notices[0].startswith(notice)
    assert np.array_equal(pixels_of(out / "b.png"), doubled(pixels_of(photos / "b.png")))
    later = folder.upscale(photos, out, settings(perception=1.0))
    assert (later.done, later.kept, later.foreign, later.notices) == (1, 1, 0, ())
    assert enlarged == ["a.png", "b.png", "a.png", "b.png"]
    assert {x["perception"] for x in manifest(out).values()} == {1.0}


def test_a_restart_that_makes_nothing_takes_nothing_away(photos, out, settings, monkeypatch):
    """All results were gone before it was known that no cluster answers."""
    folder.upscale(photos, out, settings())
    before = {name: (out / name).read_bytes() for name in files(out)}

    def unheard_of(*_, **__):
        raise ConfigError("no Dask scheduler with a worker answers")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "performed", unheard_of)
        with pytest.raises(ConfigError, match="no Dask scheduler"):
            folder.upscale(photos, out, settings(perception=1.0, restart=True))
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert folder.upscale(photos, out, settings()).kept == 2


def test_a_restart_that_is_stopped_mixes_no_models(photos, out, settings, enlarged):
    folder.upscale(photos, out, settings())
    stop = threading.Event()

    def after_one(event):
        if event.facts.get("done") == 1:
            stop.set()

    anew = settings(perception=1.0, restart=True)
    with pytest.raises(Cancelled):
        folder.upscale(photos, out, anew, report=after_one, cancelled=stop)
    assert (out / "b.png").exists()
    with pytest.raises(ConfigError, match=r"another perception \(1\.0 then, 0\.0 now\)"):
        folder.upscale(photos, out, settings())
    assert folder.upscale(photos, out, settings(perception=1.0)).kept == 1
    assert enlarged == ["a.png", "b.png", "a.png", "b.png"]


@pytest.fixture
def lose_a_receipt(photos, out, monkeypatch):
    """Ends a run between a result and its receipt."""

    add = Journal.add

    def interrupted(self, receipt):
        if self.folder.name == ".srpipe":  # and not that of a video's own job
            raise KeyboardInterrupt
        add(self, receipt)

    def lose(settings, **which):
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "add", interrupted)
            with pytest.raises(KeyboardInterrupt):
                folder.upscale(photos, out, settings, **which)

    return lose


def test_a_result_without_its_receipt_is_ours_and_made_again(
    photos, out, settings, enlarged, lose_a_receipt
):
    """It was taken for a file of the user's, for good."""
    lose_a_receipt(settings())
    assert (out / "a.png").exists()
    result = folder.upscale(photos, out, settings())
    assert (result.done, result.foreign, enlarged) == (2, 0, ["a.png", "a.png", "b.png"])
    assert files(out / ".srpipe") == ["fingerprint.json", "journal.jsonl"]
    assert folder.upscale(photos, out, settings()).kept == 2


@pytest.mark.parametrize("restart", [True, False])
def test_a_result_without_its_receipt_is_not_mixed_with_those_of_another_model(
    photos, out, settings, lose_a_receipt, restart
):
    lose_a_receipt(settings())
    result = folder.upscale(photos, out, settings(perception=1.0, restart=restart))
    assert (result.done, result.foreign) == (2, 0)
    for name in ("a.png", "b.png"):
        assert pixels_of(out / name).max() <= 128  # the other weights halve what they get


def test_a_raster_or_a_video_without_its_receipt_is_ours(
    photos, out, settings, lose_a_receipt, tmp_path
):
    clip(photos / "c.mp4")
    Image.fromarray(np.zeros((8, 9), np.int32)).save(photos / "d.tif")
    for which in ({"glob": "c.*"}, {"glob": "d.*"}):
        lose_a_receipt(settings(), **which)
        assert folder.upscale(photos, out, settings(), **which).done == 1


def test_a_file_of_the_users_where_a_receipt_was_lost_stays(photos, out, settings, lose_a_receipt):
    lose_a_receipt(settings())
    ours = (out / "a.png").read_bytes()
    (out / "a.png").unlink()
    (out / "a.png").write_bytes(bytes(len(ours)))
    for restart in (False, True):
        result = folder.upscale(photos, out, settings(restart=restart))
        assert (result.done, result.foreign) == (1, 1)
        assert (out / "a.png").read_bytes() == bytes(len(ours))


def test_a_file_that_was_not_replaced_after_all_is_still_the_users(
    photos, out, settings, monkeypatch
):
    out.mkdir()
    (out / "a.png").write_text("mine")

    move = os.replace

    def full(part, to):
        if to == out / "a.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        move(part, to)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(TargetError, match="No space"):
            folder.upscale(photos, out, settings(overwrite=True), glob="a.png")
    assert folder.upscale(photos, out, settings()).foreign == 1
    assert (out / "a.png").read_text() == "mine"


def test_another_folder_into_the_same_one_is_refused(photos, out, settings):
    folder.upscale(photos, out, settings())
    photos.rename(photos.with_name("other"))
    with pytest.raises(ConfigError, match="another input"):
        folder.upscale(photos.with_name("other"), out, settings())


@pytest.mark.parametrize("target", ["in", "in/out", ".", "link"])
def test_folders_that_lie_in_one_another_are_refused(photos, tmp_path, settings, target):
    (tmp_path / "link").symlink_to(photos)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="lie in one another"):
        folder.upscale(photos, tmp_path / target, settings())
    assert files(tmp_path) == before


def test_two_files_that_would_become_one_are_refused(photos, out, settings):
    for name in ("x.avi", "x.mkv"):
        (photos / name).touch()
    with pytest.raises(ConfigError, match=r"x\.avi and x\.mkv would both become .*x\.mkv; rename"):
        folder.upscale(photos, out, settings())
    assert not out.exists()


def test_where_nothing_can_be_done_nothing_is_left(photos, out, settings):
    with pytest.raises(ConfigError, match=r"no pictures or videos named \*\.jpg; --recursive"):
        folder.upscale(photos, out, settings(), glob="*.jpg")
    with pytest.raises(DeviceError, match="no device cuda:9"):
        folder.upscale(photos, out, settings(device="cuda:9"))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled, match="0 of 2 files are done"):
        folder.upscale(photos, out, settings(), cancelled=stop)
    assert not out.exists()


def test_a_stop_keeps_what_is_done(photos, out, settings, enlarged):
    stop = threading.Event()

    def after_one(event):
        if event.facts.get("done") == 1:
            stop.set()

    with pytest.raises(Cancelled, match="1 of 2 files are done, and the same command goes on"):
        folder.upscale(photos, out, settings(), report=after_one, cancelled=stop)
    assert names(out) == [".srpipe", "a.png"]
    assert folder.upscale(photos, out, settings()).kept == 1
    assert enlarged == ["a.png", "b.png"]


def test_a_second_run_at_the_same_time_is_refused(photos, out, settings):
    def meanwhile(event):
        if event.facts.get("done") == 1:
            with pytest.raises(TargetError, match="another run is writing"):
                folder.upscale(photos, out, settings())

    assert folder.upscale(photos, out, settings(), report=meanwhile).done == 2


def test_videos_are_done_and_kinds_that_are_not_read_are_named(photos, out, settings):
    clip(photos / "clip.mp4")
    (photos / "raw.dng").touch()
    result = folder.upscale(photos, out, settings(), glob="*[!b].*")
    assert (result.done, result.failures) == (2, {})
    assert manifest(out)["clip.mp4"]["frames"] == 5
    assert "1 picture left out, of kinds that are not read: raw.dng" in result.notices[0]


@pytest.mark.parametrize("glob", ["", "."])
def test_a_pattern_that_is_none_is_refused(photos, out, settings, glob):
    with pytest.raises(ConfigError, match="is no pattern for names; write one such as"):
        folder.upscale(photos, out, settings(), glob=glob)


@pytest.mark.parametrize("name", ["v.wmv", "v.MPG", "v.flv", "v.m2ts"])
def test_a_video_of_any_usual_ending_is_not_passed_over(photos, out, settings, name):
    (photos / name).touch()
    (unit,) = folder.plan(photos, out, settings(), glob="v.*").units
    assert unit.facts["target"] == "v.mkv"


def test_what_was_done_before_without_a_report_is_named(photos, out, settings):
    folder.upscale(photos, out, settings())
    draw(photos / "z.png")
    result = folder.upscale(photos, out, settings(report=True))
    assert result.notices == (
        "2 of the files were done before without --report: a.png, b.png; --restart makes all anew",
    )
    assert (out / "z.png.report.json").exists()
    (again,) = folder.upscale(photos, out, settings(report=True)).notices
    assert again.startswith("2 of the files")


def test_two_workers_do_what_one_process_does(photos, out, tmp_path, settings, monkeypatch):
    dask = pytest.importorskip("dask")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    draw(photos / "large.png")
    (photos / "bad.png").write_bytes(b"no picture")
    shutil.copy(photos / "b.png", photos / os.fsdecode(b"n\xff.png"))
    one = folder.upscale(photos, tmp_path / "one", settings(size="14x18"), recursive=True)
    preload = str(Path(__file__).with_name("toy_worker.py"))
    with dask.config.set({"distributed.worker.preload": [preload]}):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        two = folder.upscale(photos, out, settings(size="14x18", workers=2), recursive=True)
    assert (two.done, list(two.failures)) == (one.done, list(one.failures)) == (5, ["bad.png"])
    for name, line in manifest(tmp_path / "one").items():
        assert manifest(out)[name] | {"seconds": 0} == line | {"seconds": 0}
    assert folder.upscale(photos, out, settings(size="14x18"), recursive=True).kept == 5


def test_the_command_reports_bad_files_at_the_end(run, photos):
    (photos / "a.png").write_bytes(b"no picture")
    code, out, err = run("in", "-o", "out")
    assert code == 3
    assert out[0] == "in -> out"
    assert out[1].startswith("  2 files: 1 done, 1 failed, ")
    assert len(err) == 2
    assert "in/a.png is not the PNG file" in err[0]
    assert err[1] == "srpipe: 1 of 2 files failed"
    code, out, _ = run("in", "-o", "out", "--dry-run")
    assert (code, out) == (
        0,
        ["in -> out", "  2 files: 1 to do, 1 done before", "  a.png -> out/a.png"],
    )
    (photos / "b.png").unlink()
    assert run("in", "-o", "out")[0] == 1


def test_a_dry_run_refuses_what_the_run_would(run, photos, settings):
    """It said what was done before, by another model, and promised to go on."""
    assert run("in", "-o", "out")[0] == 0
    code, out, err = run("in", "-o", "out", "--scale", "4", "--dry-run")
    assert (code, out) == (2, [])
    assert ".srpipe holds a job with another" in err[0]
    assert run("in", "-o", "out", "--scale", "4")[2] == err
    code, out, _ = run("in", "-o", "out", "--scale", "4", "--restart", "--dry-run")
    assert (code, out[1]) == (0, "  2 files: 2 to do")


@pytest.mark.parametrize(("name", "kind"), [(MANIFEST, "folder"), (".srpipe", "file")])
def test_what_is_where_the_records_are_to_be_is_told_before_the_work(run, photos, name, kind):
    """All was done before it was seen that the manifest has no place."""
    Path("out").mkdir()
    (Path("out") / name).mkdir() if kind == "folder" else (Path("out") / name).touch()
    for words in (["--dry-run"], []):
        code, out, err = run("in", "-o", "out", *words)
        assert (code, out, len(err)) == (1, [], 1)
        assert f"out/{name} is a {kind}, and a" in err[0]
    assert names(Path("out")) == [name]


def test_the_command_as_json(run, photos):
    (photos / "a.png").write_bytes(b"no picture")
    _, out, _ = run("in", "-o", "out", "--json")
    events = [json.loads(line) for line in out]
    assert [event["event"] for event in events if event["event"] != "progress"] == [
        *("plan", "done", "failed")
    ]
    done = next(event for event in events if event["event"] == "done")
    assert done["manifest"] == f"out/{MANIFEST}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in"], "in is a folder; name another one for the results with -o"),
        (["in", "-o", ""], "in is a folder; name another one for the results with -o"),
        (["in", "in/a.png", "-o", "out/"], "in is a folder; it is enlarged alone"),
        (["in/a.png", "--recursive"], "--glob and --recursive choose among a folder's files"),
    ],
)
def test_a_mistake_in_use_is_one_line_and_2(run, photos, words, message):
    code, out, err = run(*words)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


def test_what_is_no_longer_looked_for_decides_nothing(photos, out, settings):
    """A truncated film of an earlier run gave each later one its exit code and its notices."""
    film = photos / "v.mkv"
    clip(film, frames=50)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 3 // 5])
    allowed = settings(allow_truncated=True)
    assert folder.upscale(photos, out, allowed).status == "truncated"
    film.unlink()
    later = folder.upscale(photos, out, allowed)
    assert (later.status, later.notices) == ("done", ())
    assert "v.mkv" in (out / MANIFEST).read_text()


def test_a_name_may_be_as_long_as_its_part_allows(photos, out, settings):
    """Its report and the files beside it would have longer names, which no file can have."""
    longest = f"{'a' * 246}.png"  # with .part behind it 255 bytes
    (photos / "a.png").rename(photos / longest)
    assert not folder.upscale(photos, out, settings()).failures
    assert (out / longest).exists()


def test_a_name_that_no_result_can_have_is_one_file_s_fault(photos, out, settings):
    """The folder ended with a traceback."""
    out.mkdir()
    (photos / f"{'v' * 252}.qt").touch()  # with .mkv a byte more than a name can have
    result = folder.upscale(photos, out, settings())
    assert (result.done, len(result.failures)) == (2, 1)
