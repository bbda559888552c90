from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from srpipe.errors import WeightsError
from srpipe.gradients import gradient_map
from training.losses import (
    CELLS,
    LOSSES,
    Lpips,
    Perceptual,
    correlation,
    cut,
    gradient_correlation,
    gradient_supervision,
    grid,
    steady,
)

EVERY = {
    **LOSSES,
    "grid": partial(grid, scale=2),
    "steady": steady,
    "gradient_supervision": lambda a, b: gradient_supervision([gradient_map(a)], b),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_loss_is_zero_when_equal_and_more_when_worse(name):
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 16, 16)
    noise = torch.randn_like(truth)
    found = [float(EVERY[name](truth + size * noise, truth)) for size in (0, 0.05, 0.3)]
    assert found[0] == pytest.approx(0, abs=1e-4)
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("name", EVERY)
def test_every_loss_is_computed_in_full_precision_within_autocast(name):
    a, b = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert EVERY[name](a.bfloat16(), b).dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_every_loss_has_a_finite_slope_where_image_and_truth_are_flat(name):
    image = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    EVERY[name](image, torch.full((1, 3, 16, 16), 0.5)).backward()
    assert torch.isfinite(image.grad).all()


def test_pixel_losses_by_hand():
    image, truth = torch.tensor([0.5, 0.25]), torch.tensor([0.0, 0.5])
    assert LOSSES["l1"](image, truth).item() == pytest.approx((0.5 + 0.25) / 2)
    assert LOSSES["mse"](image, truth).item() == pytest.approx((0.25 + 0.0625) / 2)


@pytest.mark.parametrize(("name", "wanted"), [("gradient_l1", 0.199), ("gradient_mse", 0.199**2)])
def test_gradient_losses_of_a_ramp_and_a_flat_image_by_hand(name, wanted):
    """A slope of 0.1 per pixel is 0.2 in the map, a flat image 0.001; the ends see half of it."""
    ramp = (torch.arange(8.0) / 10).expand(1, 3, 8, 8)
    inner = (..., slice(1, -1))
    maps = gradient_map(ramp)[inner], gradient_map(torch.zeros(1, 3, 8, 8))[inner]
    assert LOSSES[name.removeprefix("gradient_")](*maps).item() == pytest.approx(wanted, rel=1e-3)
    whole = LOSSES[name](ramp, torch.zeros(1, 3, 8, 8)).item()
    ends = 0.099 if name == "gradient_l1" else 0.099**2
    assert whole == pytest.approx((6 * wanted + 2 * ends) / 8, rel=1e-3)


def test_correlation_by_hand():
    a = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    b = torch.tensor([[[[1.0, 3.0], [2.0, 4.0]]]])
    assert correlation(a, b).item() == pytest.approx(0.8)
    assert correlation(a, -a).item() == pytest.approx(-1)
    assert correlation(a, torch.ones_like(a)).item() == 0


def test_correlation_is_per_image_and_channel_and_knows_no_brightness():
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    found = correlation(a, b)
    assert found.shape == (2, 3)
    assert torch.allclose(found[1, 2], correlation(a[1:, 2:], b[1:, 2:])[0, 0])
    assert torch.allclose(correlation(3 * a + 7, b), found, atol=1e-4)


def test_the_gradient_correlation_of_maps_that_rise_and_fall_against_each_other_is_two():
    """The paper's sign would reward exactly this."""
    from unittest.mock import patch

    edges = torch.rand(1, 3, 8, 8)
    with patch("training.losses.gradient_map", side_effect=lambda x: x):
        assert gradient_correlation(edges, -edges).item() == pytest.approx(2, abs=1e-5)


def test_a_grid_is_what_one_output_pixel_of_every_input_pixel_is_off_by():
    truth = torch.rand(1, 3, 4 * CELLS, 8 * CELLS)
    image = truth.clone()
    image[..., 1::4, 2::4] += 0.5  # one of 16
    assert float(grid(image, truth, 4)) == pytest.approx(0.5 / 16, rel=1e-5)
    assert float(grid(truth - 0.25, truth, 4)) == pytest.approx(0.25, rel=1e-5)


def test_texture_is_no_grid_at_any_phase():
    signs = torch.tensor([1.0, -1.0]).repeat(CELLS)[: 2 * CELLS]
    board = signs[:, None] * signs  # from input pixel to input pixel the other sign
    texture = 0.3 * torch.nn.functional.pixel_shuffle(
        board * torch.rand(1, 16, 1, 1).expand(1, 16, *board.shape), 4
    )
    truth = torch.rand(1, 1, *texture.shape[-2:])
    assert float(grid(truth + texture, truth, 4)) == pytest.approx(0, abs=1e-6)
    assert float(texture.abs().mean()) > 0.05


def test_what_is_cut_begins_at_the_corner():
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    assert cut(image, torch.tensor([1, 2]), 3).tolist() == [[[[7, 8, 9], [12, 13, 14]]]]
    assert torch.equal(cut(image, torch.tensor([0, 0]), 1), image)


def test_steadiness_by_hand():
    image, shaken = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    shaken[0, 0, 0, 0] = 0.6  # one of twelve
    assert float(steady(shaken, image)) == pytest.approx(0.6 / 12**0.5)


def test_gradient_supervision_adds_up_its_levels():
    """Flat at every size: maps that are 0.3 and 0.1 too high cost just that."""
    truth = torch.full((2, 3, 16, 16), 0.5)
    maps = [torch.full((2, 3, size, size), 1e-3 + off) for size, off in ((8, 0.3), (16, 0.1))]
    assert gradient_supervision(maps, truth).item() == pytest.approx(0.4, abs=1e-5)


def test_gradient_supervision_compares_with_the_truth_of_the_maps_size():
    """A ramp reduced to half has twice the slope per pixel."""
    ramp = (torch.arange(32.0) / 64).expand(1, 3, 32, 32)
    inner = gradient_map(torch.arange(16.0).expand(1, 3, 16, 16) / 32)[..., 4:-4]
    found = torch.zeros(1, 3, 16, 16, requires_grad=True)
    gradient_supervision([found], ramp).backward()
    assert inner.unique().numel() == 1
    perfect = gradient_map(torch.arange(16.0).expand(1, 3, 16, 16) / 32)
    assert gradient_supervision([perfect], ramp).item() < 0.05 * float(inner.mean())


@pytest.fixture
def backbone(tmp_path):
    """The first three layers of a VGG19 that was never trained."""
    from torchvision.models import vgg

    features = vgg.make_layers(vgg.cfgs["E"])[:3]
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    return tmp_path / "vgg.safetensors"


@pytest.mark.parametrize("criterion", ["l1", "mse"])
def test_the_perceptual_loss_is_of_features_before_their_relu(backbone, criterion):
    loss = Perceptual(backbone, layer=2, criterion=criterion)
    x, y = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    assert loss(x, x).item() == 0
    assert loss.embed(x).min() < 0
    off = loss.embed(x) - loss.embed(y)
    wanted = off.abs().mean() if criterion == "l1" else off.square().mean()
    assert loss(x, y).item() == pytest.approx(wanted.item(), rel=1e-5)
    image = x.clone().requires_grad_()
    loss(image, y).backward()
    assert image.grad.any()
    assert not any(p.requires_grad for p in loss.parameters())


def test_without_its_backbone_the_perceptual_loss_is_loud(tmp_path, backbone):
    with pytest.raises(WeightsError, match=r"needs VGG19's weights.*set the loss's weight to 0"):
        Perceptual(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="needs VGG19's weights"):
        Perceptual(backbone)  # which ends after three layers


def test_without_its_backbone_the_loss_lpips_is_loud(backbone):
    with pytest.raises(WeightsError, match=r"lpips needs a backbone.*set the loss's weight to 0"):
        Lpips("squeeze", backbone)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_the_loss_lpips_is_zero_when_equal_and_more_when_worse_and_moves_the_image(tmp_path):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    features = squeezenet1_1().features.state_dict()
    save_file({f"features.{k}": v for k, v in features.items()}, tmp_path / "net.safetensors")
    loss = Lpips("squeeze", tmp_path / "net.safetensors")
    truth, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    found = [loss(truth + size * noise, truth) for size in (0, 0.05, 0.3)]
    assert found[0].item() == 0
    assert found[0] < found[1] < found[2]
    image = (truth + 0.1 * noise).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(image, truth)
    assert value.dtype == torch.float32
    value.backward()
    assert image.grad.any()
