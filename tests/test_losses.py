import pytest
import torch
from safetensors.torch import save_file

from srpipe.errors import ConfigError, WeightsError
from training.discriminators import VGGCritic
from training.losses import LOSSES, Perceptual, correlation, gradient_correlation, relativistic


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_zero_when_equal_and_more_when_worse(name):
    torch.manual_seed(0)
    truth = torch.rand(2, 3, 16, 16)
    noise = torch.randn_like(truth)
    found = [float(LOSSES[name](truth + size * noise, truth)) for size in (0, 0.05, 0.3)]
    assert found[0] == pytest.approx(0, abs=1e-4)
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_computed_in_full_precision_within_autocast(name):
    a, b = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert LOSSES[name](a.bfloat16(), b).dtype == torch.float32


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


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_finite_slope_where_image_and_truth_are_flat(name):
    image = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    LOSSES[name](image, torch.full((1, 3, 16, 16), 0.5)).backward()
    assert torch.isfinite(image.grad).all()


def test_relativistic_by_hand():
    equal = torch.zeros(3, 1)
    assert relativistic(equal, equal).item() == pytest.approx(0.693147, abs=1e-5)
    wins, loses = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    wanted = torch.log1p(torch.exp(torch.tensor(-1.0)))  # both halves ask for wins - loses = 1
    assert relativistic(wins, loses).item() == pytest.approx(wanted.item())
    assert relativistic(loses, wins) > relativistic(wins, loses)


@pytest.mark.parametrize(
    ("size", "norm", "wanted"),
    [(128, "batch", 14_502_281), (192, "batch", 20_700_553), (192, None, 20_692_745)],
)
def test_the_critics_have_their_parameters(size, norm, wanted):
    with torch.device("meta"):
        critic = VGGCritic(size, norm=norm)
        assert sum(p.numel() for p in critic.parameters()) == wanted
        assert critic(torch.rand(2, 3, size, size)).shape == (2, 1)


def test_a_critic_takes_only_sizes_that_it_can_halve():
    with pytest.raises(ConfigError, match="multiple of 32"):
        VGGCritic(100)


@pytest.fixture
def backbone(tmp_path):
    """The first three layers of a VGG19 that was never trained."""
    from torchvision.models import vgg

    features = vgg.make_layers(vgg.cfgs["E"])[:3]
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    return tmp_path / "vgg.safetensors"


def test_the_perceptual_loss_is_of_features_before_their_relu(backbone):
    loss = Perceptual(backbone, layer=2)
    x = torch.rand(1, 3, 8, 8)
    assert loss(x, x).item() == 0
    assert loss.embed(x).min() < 0
    image = x.clone().requires_grad_()
    loss(image, torch.rand(1, 3, 8, 8)).backward()
    assert image.grad.any()
    assert not any(p.requires_grad for p in loss.parameters())


def test_without_its_backbone_the_perceptual_loss_is_loud(tmp_path, backbone):
    with pytest.raises(WeightsError, match="needs VGG19's weights"):
        Perceptual(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="needs VGG19's weights"):
        Perceptual(backbone)  # which ends after three layers
