import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from srpipe import zoo
from srpipe.errors import WeightsError
from srpipe.resample import enlarge
from training.data import read_image
from training.degrade import as_tensor, cropped
from training.evaluate import lpips_squeeze, main, measure, table

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        noise = rng.integers(0, 255, (9, 13, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((67, 50), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def test_the_truth_itself_is_perfect_and_bicubic_is_not(pictures):
    truths = [as_tensor(cropped(read_image(path), 2)) for path in sorted(pictures.iterdir())]
    answers = iter(truths)
    perfect = measure(lambda _low: next(answers), pictures, 2)
    assert perfect == {"psnr_y": float("inf"), "ssim_y": 1.0, "psnr_rgb": float("inf")}
    bicubic = measure(lambda x: enlarge(x, 2), pictures, 2)
    assert 20 < bicubic["psnr_y"] < 60
    assert bicubic["ssim_y"] < 1


def test_the_command_prints_a_table_with_its_protocol_and_records_it(
    pictures, toy, tmp_path, capsys
):
    json_file = tmp_path / "figures.json"
    words = [str(pictures), "--model", "toy", "--weights", str(toy), "--json", str(json_file)]
    assert main([*words, "--record"]) == 0
    out = capsys.readouterr().out
    assert "| pictures | bicubic |" in out
    assert "| pictures | toy-lite-x2 at 1 |" in out
    assert "border of `scale` px left out" in out
    rows = {row["model"]: row for row in json.loads(json_file.read_text())["rows"]}
    for card in zoo.cards(toy):
        row = rows[f"toy-lite-x2 at {zoo.STAGES.index(card.stage)}"]
        assert card.metrics["values"]["pictures"]["psnr_y"] == row["psnr_y"]
    assert main([str(tmp_path / "nowhere"), "--model", "toy", "--weights", str(toy)]) == 2
    assert "holds no pictures" in capsys.readouterr().err


def test_a_table_is_markdown():
    text = table([("Set", "bicubic", {"psnr_y": 28.4267, "ssim_y": 0.81131})])
    assert text.splitlines()[2] == "| Set | bicubic | 28.43 | 0.8113 |"


@pytest.fixture
def backbone(tmp_path):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    state = squeezenet1_1(weights=None).features.state_dict()
    save_file({f"features.{k}": v for k, v in state.items()}, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def test_lpips_is_zero_when_equal_and_grows_with_the_noise(backbone):
    distance = lpips_squeeze(backbone)
    truth = torch.rand(1, 3, 64, 64)
    noise = torch.randn_like(truth)
    found = [distance(truth + size * noise, truth) for size in (0, 0.05, 0.3)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]


def test_lpips_is_loud_without_its_backbone(tmp_path):
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("other", "nothing"):
        with pytest.raises(WeightsError, match="not SqueezeNet"):
            lpips_squeeze(tmp_path / f"{name}.safetensors")


@pytest.mark.shared
def test_lpips_gives_the_values_that_are_known():
    """From the documentation of torchmetrics, for the same network and heads."""
    file = SHARED / "weights" / "squeezenet1_1_features.safetensors"
    if not file.exists():
        pytest.skip("SqueezeNet's weights are not beside the project")
    distance = lpips_squeeze(file)
    generator = torch.Generator().manual_seed(42)
    a, b = (torch.rand(2, 3, 100, 100, generator=generator) for _ in range(2))
    found = [distance(a[i : i + 1], b[i : i + 1]) for i in range(2)]
    assert found == pytest.approx([0.1024, 0.0938], abs=5e-5)
