import json

import pytest
import torch
from torch import nn

from srpipe import zoo
from srpipe.models import MODELS
from srpipe.models.pooling import Average
from training.export import PROOF_SIDE, _halo, _portable, centre, effective_halo, export, proven
from training.recipe import SHIPPED, read
from training.validate import validate


class Blur(nn.Module):
    """Adds a share of the pixel ``reach`` rows above; scale 1."""

    def __init__(self, reach, share):
        super().__init__()
        self.reach, self.share = reach, nn.Parameter(torch.tensor(share))

    def forward(self, x):
        return x + self.share * torch.roll(x, self.reach, -2)


@pytest.mark.parametrize(("reach", "wanted"), [(0, 0), (3, 3), (7, 7)])
def test_the_effective_halo_is_how_far_the_network_looks(reach, wanted):
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    assert effective_halo(Blur(reach, 0.5), image, 1) == wanted


def test_an_influence_below_half_a_level_does_not_count():
    image = torch.rand(1, 3, 40, 40)
    assert effective_halo(Blur(7, 0.4 / 255), image, 1) == 0


def test_the_effective_halo_is_a_multiple_of_the_alignment_and_fits_the_image():
    image = torch.rand(1, 3, 42, 41, generator=torch.Generator().manual_seed(2))
    assert effective_halo(Blur(5, 0.5), image, 4) == 8
    assert effective_halo(Blur(19, 0.5), image, 4) == 20


def test_the_halo_is_the_whole_reach_where_the_images_are_too_small_to_tell():
    chance = torch.Generator().manual_seed(3)
    small, large = (torch.rand(1, 3, side, side, generator=chance) for side in (24, 40))
    assert _halo(Blur(12, 0.5), [small], 1, 30) == 30
    assert _halo(Blur(12, 0.5), [small, large], 1, 30) == 12
    assert _halo(Blur(5, 0.5), [small], 1, 30) == 5


class Mean(nn.Module):
    """Adds fifty times the mean of the whole image, which is a global statistic."""

    def __init__(self):
        super().__init__()
        self.average, self.share = Average(), nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        return x + self.share * self.average(x)[:, 0]


def test_what_tiles_share_needs_no_halo():
    image = torch.rand(1, 3, 40, 40) * torch.linspace(0, 1, 40).view(-1, 1)
    assert effective_halo(Mean(), image[..., 3:, :], 1) == 0


class Coarse(nn.Module):
    """The identity, by way of a multiple that is rounded in the body and taken off again."""

    float32 = ()

    def __init__(self, weight):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1)
        nn.init.zeros_(self.body.bias)
        self.weight = weight
        self.body.weight.data = weight * torch.eye(3).view(3, 3, 1, 1)

    def forward(self, x):
        return x + self.body(x.to(self.body.weight.dtype)).float() - self.weight * x


def test_a_precision_is_proven_when_no_value_is_two_levels_off():
    samples = [torch.rand(1, 3, 32, 32)]
    assert "bf16" in proven(Coarse(0.1), samples)
    assert "bf16" not in proven(Coarse(10.0), samples)


@pytest.mark.parametrize("units", [True, False])
def test_the_whole_of_a_sample_counts_where_that_does_not_take_long(monkeypatch, units):
    """Black in the corner, which nothing rounds away, and noise beyond it."""
    monkeypatch.setattr("training.export.native", lambda device, name: units)
    sample = torch.zeros(1, 3, 48, 48)
    sample[..., PROOF_SIDE:, :] = torch.rand(1, 3, 48 - PROOF_SIDE, 48)
    assert ("bf16" in proven(Coarse(10.0), [sample])) == (not units)


def test_the_mean_colour_is_corrected_and_nothing_else():
    network = nn.Sequential()
    network.tail = nn.Conv2d(3, 3, 1)
    network.tail.weight.data = torch.eye(3).view(3, 3, 1, 1)
    network.tail.bias.data = torch.tensor([-0.01, 0.02, 0.0])
    network.tail.requires_grad_(False)
    images = [torch.rand(1, 3, 8, 8) for _ in range(3)]
    centre(network, [(image, image) for image in images])
    assert torch.allclose(network.tail.bias, torch.zeros(3), atol=1e-6)
    assert torch.equal(network.tail.weight, torch.eye(3).view(3, 3, 1, 1))


def test_one_picture_whose_colour_is_far_off_does_not_move_the_others():
    network = nn.Sequential()
    network.tail = nn.Conv2d(3, 3, 1)
    network.tail.weight.data = torch.eye(3).view(3, 3, 1, 1)
    network.tail.bias.data = torch.tensor([0.01, 0.0, -0.01])
    network.tail.requires_grad_(False)
    images = torch.rand(5, 3, 8, 8)
    truth = images.clone()
    truth[2, 2] += 0.1
    centre(network, [(images[:4], truth[:4]), (images[4:], truth[4:])])
    assert torch.allclose(network.tail.bias, torch.zeros(3), atol=1e-6)


def test_the_mean_colour_is_corrected_where_a_curve_follows_the_last_bias():
    network = nn.Sequential()
    network.tail = nn.Conv2d(3, 3, 1)
    network.tail.weight.data = torch.eye(3).view(3, 3, 1, 1)
    network.tail.bias.data = torch.tensor([-0.2, 0.1, 0.0])
    network.curve = nn.Sigmoid()
    network.requires_grad_(False)
    images = [torch.rand(1, 3, 8, 8) for _ in range(3)]
    wanted = [(image, image.sigmoid()) for image in images]
    centre(network, wanted)
    off = torch.cat([(high - network(low)).mean((2, 3)) for low, high in wanted]).median(0).values
    assert off.abs().max() < 0.1 / 255


@pytest.mark.parametrize("loss", ["perceptual", "lpips"])
def test_a_card_has_the_figures_of_the_weights_that_are_exported(tmp_path, loss):
    torch.manual_seed(0)
    how = read(SHIPPED / "rdam-lite-x2-fidelity.toml", [f"losses.{loss}=1"])
    spec = MODELS["rdam"]
    network = spec.build(scale=2, **spec.presets["lite"])
    network.tail.bias.data -= 0.1  # which is corrected, and what is left is rounded
    high = torch.rand(1, 3, 48, 48)
    samples = [(torch.nn.functional.avg_pool2d(high, 2), high)]
    card = zoo.Card.read(
        export(how, network.state_dict(), {"steps": 1}, samples, samples, tmp_path)
    )
    bias = zoo.tensors(card)["tail.bias"].float()
    assert not torch.allclose(bias, network.tail.bias, atol=0.05), "the mean colour is corrected"
    network.load_state_dict(zoo.tensors(card))
    found = validate(network, samples, 2, edges=False)
    spent = card.training["spent"]
    assert spent["held_out_psnr_y"] == pytest.approx(found.psnr, abs=1e-3)
    assert spent["held_out_ssim_y"] == pytest.approx(found.ssim, abs=1e-4)
    assert spent["steps"] == 1


def test_a_card_is_json_where_the_held_out_picture_came_out_without_an_error(tmp_path, monkeypatch):
    """Of a black one, the card had the PSNR as Infinity, which few but Python read."""
    monkeypatch.setattr("training.export.proven", lambda *_: ("fp32",))
    how = read(SHIPPED / "rdam-lite-x2-fidelity.toml")
    network = MODELS["rdam"].build(scale=2, **MODELS["rdam"].presets["lite"])
    for each in network.parameters():
        each.data.zero_()
    black = [(torch.zeros(1, 3, 24, 24), torch.zeros(1, 3, 48, 48))]
    card = export(how, network.state_dict(), {"steps": 1}, black, [], tmp_path)
    spent = json.loads(card.read_text(), parse_constant=pytest.fail)["training"]["spent"]
    assert spent == {"steps": 1, "held_out_ssim_y": 1.0}


def test_a_sum_of_cards_is_recorded_without_its_paths():
    start = "eagcl-lite-x4-compressed-fidelity + /a b/c/mine.json - /d/e.json"
    recipe = read(SHIPPED / "eagcl-lite-x4-fidelity.toml", [f"model.start={start}"])
    said = _portable(recipe)["model"]["start"]
    assert said == "eagcl-lite-x4-compressed-fidelity + mine.json - e.json"
