import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from srpipe.device import found as found_device
from srpipe.errors import ConfigError, PixelError, WeightsError
from srpipe.figures import FLICKER, METRICS, asked
from srpipe.settings import EvalSettings

SHARED = Path(__file__).parents[2] / "shared" / "weights"


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_gets_worse_with_the_noise(name):
    torch.manual_seed(0)
    truth = torch.rand(1, 3, 16, 16) * 0.5 + 0.25
    noise = torch.randn_like(truth) + 1
    found = [float(METRICS[name].of(truth + size * noise, truth)) for size in (0, 0.02, 0.05)]
    assert found == sorted(found, reverse="↑" in METRICS[name].heading)
    assert len(set(found)) == 3


def test_every_figure_says_what_it_is():
    for figure in [*METRICS.values(), *FLICKER.values()]:
        assert len(figure.about) > 20
        assert not figure.about.endswith(".")


def test_nothing_more_is_measured_than_is_asked_for(tmp_path, monkeypatch):
    assert asked(EvalSettings()) == {}
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(weights=None).features.state_dict()
    save_file({f"features.{k}": v for k, v in state.items()}, tmp_path / "mine.safetensors")
    found = asked(EvalSettings(lpips=(f"squeeze={tmp_path / 'mine.safetensors'}",)))
    assert list(found) == ["lpips_squeeze"]
    assert "backbone mine.safetensors" in found["lpips_squeeze"].about
    assert str(tmp_path) not in found["lpips_squeeze"].about  # a card keeps it
    x, whole = torch.rand(1, 3, 40, 40), []
    monkeypatch.setattr(
        "srpipe.figures.whole_float32", lambda device: nullcontext(whole.append(device))
    )
    assert float(found["lpips_squeeze"].of(x, x)) == 0
    assert whole == [found_device("auto")]  # CUDA would convolve with 10 bits after the point
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        asked(EvalSettings(vgg=tmp_path / "nothing.safetensors"))
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    for settings in (EvalSettings(niqe=True), EvalSettings(pi=True)):
        with pytest.raises(ConfigError, match="pip install pyiqa"):
            asked(settings)


@pytest.mark.parametrize("side", [16, 48, 90])
@pytest.mark.parametrize("name", ["niqe", "pi"])
def test_what_is_smaller_than_a_block_of_niqe_is_refused_in_one_line(name, side, monkeypatch):
    """pyiqa fails there with "Expected 3D or 4D (batch mode) tensor"."""
    monkeypatch.setattr("srpipe.figures.no_reference", lambda _name, _device: torch.mean)
    metric = asked(EvalSettings(**{name: True}))[name]
    metric.check_side(96)
    said = f"{name.upper()} takes sides of 96 px or more, not of {side} px; leave the picture out"
    with pytest.raises(PixelError, match=said):
        metric.check_side(side)


def test_a_picture_that_is_all_border_is_refused_by_the_name_of_the_figure():
    with pytest.raises(
        PixelError, match=r"^PSNR-Y takes sides of 1 px or more, not of 0 px; leave"
    ):
        METRICS["psnr_y"].check_side(0)


@pytest.mark.parametrize("answer", ["nothing finite", "no singular values"])
def test_a_picture_without_texture_has_no_niqe(answer, monkeypatch):
    """pyiqa fails there with LinAlgError, or gives NaN."""
    finds = {
        "nothing finite": lambda image: image.mean() / 0 * 0,
        "no singular values": lambda _image: torch.linalg.svd(torch.full((2, 2), torch.nan)).S,
    }
    monkeypatch.setattr("srpipe.figures.no_reference", lambda _name, _device: finds[answer])
    flat = torch.zeros(1, 3, 192, 192)
    with pytest.raises(PixelError, match="NIQE finds no texture to measure; leave the picture or"):
        asked(EvalSettings(niqe=True))["niqe"].of(flat)


@pytest.mark.shared
def test_the_distance_of_vgg19_is_zero_when_equal_and_grows_with_the_blur():
    file = SHARED / "vgg19_features_fp16.safetensors"
    if not file.exists():
        pytest.skip("VGG19's weights are not beside the project")
    distance = asked(EvalSettings(vgg=file))["vgg19"].of
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    found = [float(distance(x, truth)) for x in (truth, (truth + soft) / 2, soft)]
    assert found[0] == 0
    assert found[0] < found[1] < found[2]
