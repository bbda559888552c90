import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from srpipe.errors import ConfigError, WeightsError
from srpipe.perceptual import BACKBONES, LPIPS, VGG19, downloaded, no_reference

SHARED = Path(__file__).parents[2] / "shared" / "weights"


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not beside the project")
    return SHARED / name


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder where torch keeps what it downloads."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub"


def untrained(name):
    """Features of a network as torchvision makes it, by their names in its files."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    state = get_model(name, weights=None).features.state_dict()
    return {f"features.{key}": value for key, value in state.items()}


@pytest.fixture
def squeeze(tmp_path):
    save_file(untrained("squeezenet1_1"), tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def test_lpips_is_zero_when_equal_grows_with_the_noise_and_has_a_slope(squeeze):
    distance = LPIPS("squeeze", squeeze)
    truth = torch.rand(2, 3, 64, 64)
    noise = torch.randn_like(truth)
    found = [distance(truth + size * noise, truth) for size in (0, 0.05, 0.3)]
    assert found[0].tolist() == [0, 0]
    assert (found[0] < found[1]).all()
    assert (found[1] < found[2]).all()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    distance(image, truth[:1]).sum().backward()
    assert image.grad.any()
    assert not any(p.requires_grad for p in distance.parameters())


@pytest.mark.shared
def test_lpips_gives_the_values_that_are_known():
    """From the documentation of torchmetrics, for the same network and heads."""
    distance = LPIPS("squeeze", shared("squeezenet1_1_features.safetensors"))
    generator = torch.Generator().manual_seed(42)
    a, b = (torch.rand(2, 3, 100, 100, generator=generator) for _ in range(2))
    assert distance(a, b).tolist() == pytest.approx([0.1024, 0.0938], abs=5e-5)


@pytest.mark.shared
def test_vgg19_gives_the_values_that_its_file_came_with():
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(42))
    file = shared("vgg19_features_fp16.safetensors")
    for layer, wanted in [(0, 1.4825), (7, 1.9399), (34, 1.6067)]:
        assert VGG19(file, layer)(x).relu().mean().item() == pytest.approx(wanted, abs=1e-3)


def test_vgg19_stops_before_the_relu_and_takes_colors_as_imagenet_has_them(tmp_path):
    state = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(64)}
    state["features.0.weight"][0, 0, 1, 1] = 1.0  # the red of the middle pixel
    save_file(state, tmp_path / "v.safetensors")
    image = torch.tensor([0.485 - 0.229, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    found = VGG19(tmp_path / "v.safetensors", 0)(image)
    assert found[0, 0].flatten().tolist() == pytest.approx([-1] * 16, abs=1e-6)
    assert not found[0, 1:].any()


@pytest.mark.parametrize("name", BACKBONES)
def test_lpips_without_a_backbone_names_the_file_and_fetches_nothing(name, home, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("a download"))
    message = f"weights of {BACKBONES[name]} are not on this machine.*https://.*/{BACKBONES[name]}-"
    with pytest.raises(WeightsError, match=message):
        LPIPS(name)


def test_lpips_takes_what_torchvision_downloaded(home):
    name = "squeezenet1_1-b8a52dc0.pth"  # as torchvision 0.21 to 0.29 call it
    torch.save(untrained("squeezenet1_1"), home / "checkpoints" / name)
    assert downloaded("squeezenet1_1").name == name
    x = torch.rand(1, 3, 64, 64)
    assert LPIPS("squeeze")(x, x).tolist() == [0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as weights"),
        (b"nothing", "cannot be read as weights"),
        ({"features.0.weight": torch.zeros(1)}, "does not hold the features of squeezenet1_1"),
        (
            {"features.0.weight": torch.zeros(64, 3, 1, 1), "features.0.bias": torch.zeros(64)},
            "siz",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_backbone_that_is_none_is_one_line(tmp_path, suffix, content, message):
    file = tmp_path / f"other{suffix}"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        (save_file if suffix == ".safetensors" else torch.save)(content, file)
    with pytest.raises(WeightsError, match=message) as refusal:
        LPIPS("squeeze", file)
    assert "\n" not in str(refusal.value)


def test_a_file_that_would_run_code_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path / "gone.off").touch, ()

    torch.save(Bomb(), tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        VGG19(tmp_path / "bomb.pth")
    assert not (tmp_path / "gone.off").exists()


def test_lpips_names_its_networks():
    with pytest.raises(ConfigError, match="no network 'alexa'; there are alex, vgg, squeeze"):
        LPIPS("alexa")


@pytest.mark.parametrize("name", ["niqe", "pi"])
def test_without_pyiqa_its_metrics_say_so(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ConfigError, match=f"{name.upper()} needs the package pyiqa"):
        no_reference(name)


def test_pyiqa_is_asked_only_when_its_files_are_here(monkeypatch, tmp_path):
    """pyiqa itself would fetch them; a stand-in, for it brings 26 packages."""
    asked = []
    pyiqa = types.ModuleType("pyiqa")
    pyiqa.create_metric = lambda name, **options: (
        asked.append((name, options)) or (lambda image: image.mean())
    )
    place = types.ModuleType("pyiqa.utils.download_util")
    place.DEFAULT_CACHE_DIR = str(tmp_path)
    monkeypatch.setitem(sys.modules, "pyiqa", pyiqa)
    monkeypatch.setitem(sys.modules, "pyiqa.utils", types.ModuleType("pyiqa.utils"))
    monkeypatch.setitem(sys.modules, "pyiqa.utils.download_util", place)
    with pytest.raises(WeightsError, match=r"NIQE needs niqe_modelparameters\.mat in"):
        no_reference("niqe")
    (tmp_path / "niqe_modelparameters.mat").touch()
    with pytest.raises(WeightsError, match=r"PI needs NRQM_model\.mat in"):
        no_reference("pi")
    (tmp_path / "NRQM_model.mat").touch()
    assert asked == []
    assert no_reference("niqe")(torch.ones(1, 3, 4, 4)) == 1
    no_reference("pi")
    cpu = torch.device("cpu")
    assert asked == [("niqe", {"device": cpu}), ("pi", {"device": cpu, "crop_border": 0})]
