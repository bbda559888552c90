"""Networks of other people's: seen as far as they see, fed what they take, refused in one line."""

import json
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from srpipe import zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.infer import Upscaler
from srpipe.models.community import HALO, Community, reach

architectures = pytest.importorskip("spandrel.architectures")


def esrgan(**options):
    from spandrel.architectures.ESRGAN import ESRGAN

    return seeded(ESRGAN, **({"num_filters": 8, "num_blocks": 1, "scale": 2} | options))


def compact(**options):
    from spandrel.architectures.Compact import Compact

    return seeded(Compact, **({"num_feat": 8, "num_conv": 2, "upscale": 4} | options))


def span():
    from spandrel.architectures.SPAN import SPAN

    return seeded(SPAN, num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2)


def rcan():
    from spandrel.architectures.RCAN import RCAN

    return seeded(RCAN, n_resgroups=1, n_resblocks=1, n_feats=16, scale=2)


def swinir():
    """Works on windows of 8 x 8 pixels, pads to them itself, and takes 16 px or more."""
    from spandrel.architectures.SwinIR import SwinIR

    options = {"depths": [2], "num_heads": [1], "embed_dim": 4, "window_size": 8, "img_size": 64}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return seeded(SwinIR, upscale=2, upsampler="pixelshuffledirect", mlp_ratio=1, **options)


def unshuffled():
    """ESRGAN for a scale of 2 as Real-ESRGAN has it: takes multiples of 4."""
    return esrgan(in_nc=12, scale=4, shuffle_factor=2)


def seeded(build, **options):
    torch.manual_seed(0)
    return build(**options).eval()


def community(network):
    return Community(network.state_dict(), "it")


def picture(height, width, count=1):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(count, 3, height, width, generator=generator)


@pytest.fixture
def file(tmp_path):
    """Weights of a small Compact in a file, as its trainer would leave them."""
    torch.save({"params_ema": compact().state_dict()}, tmp_path / "4x_Tiny.pth")
    return tmp_path / "4x_Tiny.pth"


@pytest.mark.parametrize(
    ("make", "name", "scale", "precisions"),
    [
        (esrgan, "ESRGAN", 2, ("fp32", "fp16")),
        (compact, "RealESRGAN Compact", 4, ("fp32", "fp16")),
        (span, "SPAN", 2, ("fp32", "fp16")),
        (rcan, "RCAN", 2, ("fp32",)),
        (unshuffled, "ESRGAN", 2, ("fp32", "fp16")),
    ],
)
def test_weights_say_which_network_they_are_of(make, name, scale, precisions):
    found, network, x = community(make()), make(), picture(16, 20, 2)
    assert (found.architecture, found.scale, found.precisions) == (name, scale, precisions)
    with torch.no_grad():
        assert torch.allclose(found(x), network(x.clone()), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, picture(16, 20, 2))  # some networks work in their input


# ESRGAN: 1 + 15 in a block of 3 x 5 + 1, and 2 for the last 3 once it is enlarged
@pytest.mark.parametrize(("make", "wanted"), [(esrgan, 19), (compact, 4), (rcan, None)])
def test_the_reach_is_found_where_there_is_one(make, wanted):
    assert reach(community(make())) == wanted


class Blocks(nn.Module):
    """Gives each square of 16 x 16 pixels the mean of itself and of those after it."""

    scale, alignment = 1, 16

    def forward(self, x):
        whole = F.pad(x, (0, -x.shape[3] % 16, 0, -x.shape[2] % 16))
        means = F.avg_pool2d(F.pad(F.avg_pool2d(whole, 16), (0, 1, 0, 1)), 2, 1)
        return F.interpolate(means, scale_factor=16)[..., : x.shape[2], : x.shape[3]]


def test_the_reach_is_that_of_the_pixel_that_is_seen_farthest():
    assert reach(Blocks()) == 31  # the last of a square, seen by the first of the one before


@pytest.mark.parametrize("make", [esrgan, compact, span, swinir, unshuffled])
def test_no_pixel_is_seen_farther_than_the_reach(make):
    network = community(make()).double()
    halo = reach(community(make()))
    seen = 0
    for at in range(80, 96, 5):
        x = torch.rand(1, 3, 176, 1, dtype=torch.double, requires_grad=True)
        network(x)[..., at * network.scale, 0].sum().backward()
        seen = max(seen, int((x.grad[0, :, :, 0].abs().sum(0).nonzero() - at).abs().max()))
    assert halo - 8 <= seen <= halo


@pytest.mark.parametrize("make", [esrgan, compact, span, swinir, unshuffled])
def test_tiles_give_what_the_whole_image_gives(make):
    network = community(make())
    halo = reach(network)
    options = {"scale": network.scale, "halo": halo, "alignment": network.alignment}
    made = Upscaler(
        network, exact=True, device="cpu", precision="fp32", tile=2 * halo + 32, **options
    )
    images = picture(2 * halo + 75, 19)
    assert len(made.plan(*images.shape[2:])[1]) > 1
    with torch.no_grad():
        whole = network(images)
    assert (made(images) - whole).abs().max() < 1e-5 * whole.abs().max().clamp(1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (16, 16), (17, 41)])
@pytest.mark.parametrize("make", [unshuffled, swinir])
def test_what_does_not_fit_is_mirrored_and_cut(make, size):
    network, inner, x = community(make()), make(), picture(*size)
    least, unit = (16, 1) if make is swinir else (4, 4)
    sides = [max(least, -(-side // unit) * unit) for side in size]
    if min(size) > 2:
        x_mirrored = F.pad(x, (0, sides[1] - size[1], 0, sides[0] - size[0]), mode="reflect")
        with torch.no_grad():
            wanted = inner(x_mirrored)[..., : size[0] * 2, : size[1] * 2]
            assert torch.allclose(network(x), wanted, atol=1e-6)
    assert network(x).shape == (1, 3, size[0] * 2, size[1] * 2)


def test_a_side_is_mirrored_back_and_forth():
    from srpipe.models.community import _mirrored

    line = torch.arange(3.0).reshape(1, 1, 3, 1)
    assert _mirrored(line, 9, 2).flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert _mirrored(line[:, :, :1], 3, 2).flatten().tolist() == [0, 0, 0]


def test_nothing_is_clamped():
    network = compact()
    with torch.no_grad():
        x = picture(8, 8) * 4 - 2
        assert torch.equal(community(network)(x), network(x))
        assert network(x).max() > 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: compact(num_in_ch=1, num_out_ch=1), "takes 1 and gives 1 channels, not 3"),
        (lambda: compact(num_in_ch=4, num_out_ch=4), "takes 4 and gives 4 channels, not 3"),
        (lambda: esrgan(in_nc=1, out_nc=3), "takes 1 and gives 3 channels, not 3"),
    ],
)
def test_what_is_not_for_rgb_is_refused_in_one_line(make, words):
    with pytest.raises(ConfigError, match=f"it {words} as RGB has") as error:
        community(make())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": torch.ones(1)}, r"fits no network that spandrel \S+ knows; .* card \(\.json\)"),
        ({}, "fits no network"),
        (dict(list(compact().state_dict().items())[:-1]), "does not fit it|fits no network"),
    ],
)
def test_weights_of_no_known_network_are_refused_in_one_line(state, words):
    with pytest.raises(WeightsError, match=words) as error:
        Community(state, "it")
    assert "\n" not in str(error.value)


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ConfigError, match=r'pip install "srpipe\[community\]"') as error:
        Community({}, "it")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "safetensors"])
def test_a_file_is_found_and_loaded_by_its_path(tmp_path, suffix):
    network, x = compact(), picture(9, 7)
    path = tmp_path / f"4x_Tiny.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(network.state_dict(), path)
    entry = zoo.find(str(path))
    assert (entry.name, entry.scale, entry.stages) == ("4x_Tiny", 4, ())
    assert (entry.halo, entry.exact, entry.alignment) == (4, True, 16)
    assert list(entry.files) == [path.name]
    assert len(entry.files[path.name]) == 64
    loaded = zoo.load(str(path))
    assert loaded.perception is None
    with torch.no_grad():
        assert torch.allclose(loaded.network(x), network(x), atol=1e-6)


def test_a_network_that_sees_far_has_a_halo_that_is_not_exact(tmp_path):
    torch.save(rcan().state_dict(), tmp_path / "2x.pth")
    entry = zoo.find(str(tmp_path / "2x.pth"))
    assert (entry.halo, entry.exact) == (HALO, False)


def test_a_path_may_be_relative_and_the_entry_is_found_from_elsewhere(file, monkeypatch, tmp_path):
    monkeypatch.chdir(file.parent)
    entry = zoo.find(file.name)
    monkeypatch.chdir("/")
    assert zoo.find(entry.model) == entry


def test_the_file_itself_settles_the_scale(file):
    assert zoo.scales(str(file)) == (4,)
    with pytest.raises(ConfigError, match="enlarges 4 times, not 2; use --scale 4"):
        zoo.find(str(file), scale=2)


@pytest.mark.parametrize("perception", [0, 0.5, 1])
def test_there_is_no_dial_to_turn(file, perception):
    with pytest.raises(ConfigError, match=r"4x_Tiny has no dial.* leave --perception out"):
        zoo.load(str(file), perception=perception)


def test_a_file_that_was_replaced_is_read_again(file):
    assert zoo.find(str(file)).scale == 4
    torch.save(compact(upscale=2, num_conv=3).state_dict(), file)
    assert zoo.find(str(file)).scale == 2


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("gone.pth", "sub/gone", "gone.safetensors"):
        with pytest.raises(WeightsError, match=r"gone\S* cannot be read \(No such file"):
            zoo.find(str(tmp_path / name))


def test_the_command_describes_and_uses_a_file(file, capfd, monkeypatch):
    from PIL import Image

    from srpipe.cli import main

    monkeypatch.chdir(file.parent)
    assert main(["models", "info", file.name]) == 0
    told = capfd.readouterr().out
    assert told.splitlines()[0] == "4x_Tiny: RealESRGAN Compact, by others"
    assert zoo.find(str(file)).files[file.name] in told
    assert main(["models", "info", file.name, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["architecture"] == "RealESRGAN Compact"
    assert main(["models", "list", file.name]) == 0
    assert main(["models", "verify", file.name]) == 2
    Image.new("RGB", (7, 5)).save("in.png")
    capfd.readouterr()
    assert main(["upscale", "in.png", "-m", file.name]) == 0
    with Image.open("in_4x_Tiny_x4.png") as larger:
        assert larger.size == (28, 20)
    assert "4x_Tiny, fp32 on cpu" in capfd.readouterr().out
    assert main(["upscale", "in.png", "-m", file.name, "--perception", "0"]) == 2
