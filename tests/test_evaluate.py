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


def test_a_stage_that_was_not_measured_keeps_its_figures(pictures, toy, capsys):
    words = [str(pictures), "--model", "toy", "--weights", str(toy), "--record"]
    assert main(words) == 0
    before = {card.stage: card.metrics for card in zoo.cards(toy)}
    assert main([*words, "--perception", "0", "--border", "0"]) == 0
    after = {card.stage: card.metrics for card in zoo.cards(toy)}
    assert after["perception"] == before["perception"]
    assert "a border of 0 px" in after["fidelity"]["protocol"]


def test_what_is_in_the_way_is_one_line(tmp_path, toy, capsys):
    assert main([str(tmp_path / "nowhere"), "--model", "toy", "--weights", str(toy)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
