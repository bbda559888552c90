import copy

import pytest
import torch
from lightning_fabric import Fabric

from srpipe.errors import ConfigError
from srpipe.gradients import gradient_map
from training.critics import Critic, critics
from training.recipe import SHIPPED, read


def recipe(game, **changes):
    norm = "none" if game == "wgan-gp" else "batch"
    given = {
        "data.patch": 32,
        "losses.corners": 1,
        "critic.game": game,
        "critic.norm": norm,
        "critic.width": 4,
        "critic.learning_rate": 0.001,
        "losses.adversarial": 1,
        **changes,
    }
    return read(SHIPPED / "eagcl-lite-x4-perception.toml", [f"{k}={v}" for k, v in given.items()])


@pytest.fixture
def fabric():
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


@pytest.mark.parametrize(
    ("game", "network"),
    [("ragan", "vgg"), ("wgan-gp", "vgg"), ("attsrgan", "pooled"), ("wgan-gp", "pooled")],
)
def test_a_critic_learns_to_tell_bright_from_dark(fabric, game, network):
    torch.manual_seed(0)
    critic = Critic(recipe(game, **{"critic.network": network}), fabric, lambda image: image)
    real, fake = 0.5 + torch.rand(2, 2, 3, 32, 32) * torch.tensor([0.5, -0.5]).view(2, 1, 1, 1, 1)
    share = torch.rand(2, 1, 1, 1)
    losses = [float(critic.learn(real, fake, share)[0]) for _ in range(16)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("network", ["vgg", "pooled"])
def test_a_critic_without_norm_learns_within_some_steps(fabric, network):
    """With PyTorch's first weights its answers differed by less than a thousandth."""
    torch.manual_seed(0)
    changes = {"critic.network": network, "critic.width": 8, "critic.learning_rate": 2e-4}
    critic = Critic(recipe("wgan-gp", **changes), fabric, lambda image: image)
    real = torch.rand(4, 3, 32, 32)
    fake = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    found = [critic.learn(real, fake, torch.rand(4, 1, 1, 1)) for _ in range(30)]
    apart = [float(on_real - on_fake) for _loss, on_real, on_fake in found]
    assert apart[-1] > apart[0] + 0.5


@pytest.mark.parametrize("game", ["ragan", "wgan-gp", "attsrgan"])
def test_a_judgement_moves_the_image_and_not_the_critic(fabric, game):
    critic = Critic(recipe(game), fabric, gradient_map)
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    critic.judge(torch.rand(2, 3, 32, 32), image).backward()
    assert image.grad.any()
    assert all(p.grad is None for p in critic.bare.parameters())
    critic.learn(torch.rand(2, 3, 32, 32), image, torch.rand(2, 1, 1, 1))
    assert all(p.grad is not None for p in critic.bare.parameters())


def test_a_critic_goes_on_from_its_state(fabric):
    real, fake, share = *torch.rand(2, 2, 3, 32, 32), torch.rand(2, 1, 1, 1)
    one = Critic(recipe("ragan"), fabric, lambda image: image)
    one.learn(real, fake, share)
    two = Critic(recipe("ragan"), fabric, lambda image: image)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert one.learn(real, fake, share)[0] == two.learn(real, fake, share)[0]
    assert one.learn(real, fake, share)[0] == two.learn(real, fake, share)[0]


def test_there_is_a_critic_for_each_loss_that_needs_one(fabric):
    assert list(critics(recipe("ragan"), fabric)) == ["adversarial"]
    both = critics(recipe("ragan", **{"losses.gradient_adversarial": 1}), fabric)
    assert list(both) == ["adversarial", "gradient_adversarial"]
    assert both["gradient_adversarial"].sees is gradient_map


@pytest.mark.parametrize(("network", "patch"), [("vgg", 32), ("pooled", 16)])
def test_one_small_square_is_too_little_for_batch_norm_and_said_at_once(fabric, network, patch):
    changes = {"critic.network": network, "data.batch": 1, "data.patch": patch}
    without = {"losses.lpips": 0, "losses.perceptual": 0}
    with pytest.raises(ConfigError, match=r"use a larger data\.batch or data\.patch"):
        critics(recipe("ragan", **changes, **without), fabric)
    for enough in ({"data.batch": 2}, {"data.patch": 2 * patch}, {"critic.norm": "none"}):
        given = recipe("ragan", **{**changes, **enough}, **without)
        (critic,) = critics(given, fabric).values()
        images = torch.rand(2, given.data.batch, 3, given.data.patch, given.data.patch)
        critic.learn(*images, torch.rand(given.data.batch, 1, 1, 1))
