import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srpipe import zoo
from training.evaluate import main


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((67, 50), Image.Resampling.BICUBIC).save(folder / "a.png")
    return folder


def test_figures_are_printed_and_only_recorded_when_asked(pictures, toy, capsys):
    words = [str(pictures), "--model", "toy", "--weights", str(toy)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "| pictures | x2 | bicubic |" in out
    assert not any(card.metrics for card in zoo.cards(toy))
    assert main([*words, "--record"]) == 0
    fidelity, perception = (card.metrics for card in zoo.cards(toy))
    assert fidelity["protocol"] == out.splitlines()[-1]
    assert fidelity["values"]["pictures"]["psnr_y"] > perception["values"]["pictures"]["psnr_y"]
    assert fidelity["bicubic"] == perception["bicubic"]
    assert f"{fidelity['bicubic']['pictures']['psnr_y']:.2f}" == out.splitlines()[2].split(" | ")[3]
    shown = out.splitlines()[3].split(" | ")
    assert f"{fidelity['values']['pictures']['psnr_y']:.2f}" == shown[3]


@pytest.mark.parametrize("source", ["clean", "compressed"])
def test_figures_are_recorded_of_the_source_that_weights_are_for(pictures, toy, capsys, source):
    for card in zoo.cards(toy):
        (toy / f"{card.stem}.json").unlink()
        replace(card, source=source).write()
    name = "toy" if source == "clean" else "toy-compressed"
    words = [str(pictures), "--model", name, "--weights", str(toy), "--record"]
    right, wrong = (words, [*words, "--h264", "30"])
    if source == "compressed":
        right, wrong = wrong, right
    assert main(wrong) == 2
    assert f"is for {source} pictures" in capsys.readouterr().err
    assert main(right) == 0
    assert all(card.metrics for card in zoo.cards(toy))


def test_figures_are_recorded_also_where_nobody_reads_the_table(pictures, toy, monkeypatch):
    nobody, table = os.pipe()
    os.close(nobody)
    with os.fdopen(table, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert main([str(pictures), "--model", "toy", "--weights", str(toy), "--record"]) == 0
    assert all(card.metrics["values"] for card in zoo.cards(toy))


def test_the_table_is_printed_where_a_card_cannot_be_written(pictures, toy, capsys, monkeypatch):
    before = (toy / "toy-lite-x2-fidelity.json").read_text()

    def full(path, data):
        with path.open("wb") as file:
            file.write(data[:9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        code = main([str(pictures), "--model", "toy", "--weights", str(toy), "--record"])
    assert code == 1
    out, err = capsys.readouterr()
    assert "| toy-lite-x2" in out
    assert "cannot be written (No space left on device)" in err
    assert (toy / "toy-lite-x2-fidelity.json").read_text() == before
    assert not list(toy.glob("*.part"))


def test_ctrl_c_ends_it_in_one_line(pictures, toy, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.evaluate.evaluate", stop)
    assert main([str(pictures), "--model", "toy", "--weights", str(toy)]) == 130
    assert capsys.readouterr().err == "training.evaluate: error: stopped\n"


def test_a_stage_that_was_not_measured_keeps_its_figures(pictures, toy, capsys):
    words = [str(pictures), "--model", "toy", "--weights", str(toy), "--record"]
    assert main(words) == 0
    before = {card.stage: card.metrics for card in zoo.cards(toy)}
    assert main([*words, "--perception", "0", "--border", "0"]) == 0
    after = {card.stage: card.metrics for card in zoo.cards(toy)}
    assert after["perception"] == before["perception"]
    assert "a border of 0 px" in after["fidelity"]["protocol"]


def test_weights_of_one_name_are_not_taken_for_each_other(pictures, toy, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(toy, other)
    (card,) = (each for each in zoo.cards(other) if each.stage == "fidelity")
    darker = {name: tensor / 2 for name, tensor in zoo.tensors(card).items()}
    replace(card, files=zoo.store(darker, other, card.stem)).write()
    path = str(other / f"{card.stem}.json")
    words = [str(pictures), "--model", "toy-lite-x2", "--model", path, "--weights", str(toy)]
    assert main([*words, "--perception", "0", "--record"]) == 0
    methods = [line.split(" | ")[2] for line in capsys.readouterr().out.splitlines()[2:5]]
    assert methods == ["bicubic", "toy-lite-x2, fidelity", f"{path}, fidelity"]
    good, bad = (zoo.cards(folder)[0].metrics["values"]["pictures"] for folder in (toy, other))
    assert good["psnr_y"] > bad["psnr_y"]


@pytest.mark.parametrize("words", ["--model toy --perception 0.5", "--model x.pth", ""])
def test_figures_that_no_card_is_for_are_not_recorded_in_one(pictures, toy, capsys, words):
    assert main([str(pictures), *words.split(), "--weights", str(toy), "--record"]) != 0
    assert capsys.readouterr().err.count("\n") == 1
    assert not any(card.metrics for card in zoo.cards(toy))


def test_data_sets_of_one_name_are_told_apart_by_their_folders(pictures, toy, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(pictures, tmp_path / name / "HR")
    sets = [str(pictures), *(str(tmp_path / name / "HR") for name in ("one", "two"))]
    assert main([*sets, "--model", "toy", "--weights", str(toy), "--record"]) == 0
    assert list(zoo.cards(toy)[0].metrics["values"]) == ["pictures", "one/HR", "two/HR"]


def test_a_data_set_that_is_recorded_later_does_not_take_the_place_of_another(
    pictures, toy, tmp_path
):
    other = shutil.copytree(pictures, tmp_path / "other")
    words = ["--model", "toy", "--weights", str(toy), "--record"]
    for each in (pictures, other):
        assert main([str(each), *words]) == 0
    for kind in ("values", "bicubic"):
        assert list(zoo.cards(toy)[0].metrics[kind]) == ["pictures", "other"]
    assert main([str(other), *words, "--border", "0"]) == 0  # which cannot stand beside the others
    assert list(zoo.cards(toy)[0].metrics["values"]) == ["other"]


def test_memory_that_runs_out_is_one_line(pictures, toy, capsys, monkeypatch):
    def evaluate(*_args):
        raise MemoryError

    monkeypatch.setattr("training.evaluate.evaluate", evaluate)
    assert main([str(pictures), "--model", "toy", "--weights", str(toy)]) == 1
    assert capsys.readouterr().err == (
        "training.evaluate: error: memory ran out at the pictures that are measured; free memory\n"
    )


def test_what_is_in_the_way_is_one_line(tmp_path, toy, capsys):
    assert main([str(tmp_path / "nowhere"), "--model", "toy", "--weights", str(toy)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
