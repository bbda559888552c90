import pytest
import torch
from torch import nn

from training.adversarial import (
    GAMES,
    gradient_penalty,
    relativistic,
    seen_through,
    told_apart,
    wasserstein,
)


def test_relativistic_by_hand():
    equal = torch.zeros(3, 1)
    assert relativistic(equal, equal).item() == pytest.approx(0.693147, abs=1e-5)
    wins, loses = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    wanted = torch.log1p(torch.exp(torch.tensor(-1.0)))  # both halves ask for wins - loses = 1
    assert relativistic(wins, loses).item() == pytest.approx(wanted.item())
    assert relativistic(loses, wins) > relativistic(wins, loses)


def test_wasserstein_by_hand():
    real, fake = torch.tensor([[3.0], [5.0]]), torch.tensor([[1.0], [-2.0]])
    assert wasserstein(real, fake).item() == -0.5 - 4
    assert GAMES["wgan-gp"].generator(real, fake).item() == 0.5


def test_the_attention_srgans_losses_by_hand():
    sure = torch.tensor([[0.0], [torch.inf]])  # D of 0.5 and 1
    assert told_apart(sure, -sure).item() == pytest.approx(1 - 0.75 + 0.25)
    assert seen_through(sure).item() == pytest.approx(0.25)
    assert GAMES["attsrgan"].score(sure).tolist() == [[0.5], [1.0]]


@pytest.mark.parametrize("name", GAMES)
def test_a_critic_that_is_right_loses_less_and_its_generator_more(name):
    game, high, low = GAMES[name], torch.full((4, 1), 2.0), torch.full((4, 1), -2.0)
    assert game.critic(high, low) < game.critic(low, high)
    assert game.generator(high, low) > game.generator(low, high)


@pytest.mark.parametrize("name", GAMES)
def test_every_game_is_played_in_full_precision_within_autocast(name):
    answers = torch.rand(2, 1).bfloat16(), torch.rand(2, 1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert GAMES[name].critic(*answers).dtype == torch.float32
        assert GAMES[name].generator(*answers).dtype == torch.float32


class Linear(nn.Module):
    """A critic whose slope has a given length everywhere."""

    def __init__(self, slope):
        super().__init__()
        weight = torch.ones(1, 3, 4, 4)
        self.weight = nn.Parameter(slope * weight / weight.norm())

    def forward(self, x):
        assert x.dtype == torch.float32
        return (x * self.weight).sum((1, 2, 3)).view(-1, 1)


@pytest.mark.parametrize(("slope", "wanted"), [(1, 0), (2, 10), (0.5, 2.5), (0, 10)])
def test_the_penalty_of_a_linear_critic_is_known(slope, wanted):
    critic, share = Linear(slope), torch.rand(5, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = 10 * gradient_penalty(
            critic, torch.rand(5, 3, 4, 4).bfloat16(), torch.rand(5, 3, 4, 4), share
        )
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted, abs=1e-5)


def test_the_penalty_pulls_the_slope_towards_one():
    for slope in (0.5, 2.0):
        critic = Linear(slope)
        gradient_penalty(critic, *torch.rand(2, 5, 3, 4, 4), torch.rand(5, 1, 1, 1)).backward()
        assert (critic.weight.grad.mean() > 0) == (slope > 1)


def test_the_penalty_is_taken_between_real_and_fake_images():
    """Of ``|x|² / 2`` the slope is x itself."""
    real, fake = torch.full((1, 3, 1, 1), 4.0), torch.zeros(1, 3, 1, 1)
    found = gradient_penalty(
        lambda x: x.square().sum((1, 2, 3)).view(-1, 1) / 2, real, fake, torch.tensor(0.25)
    )
    assert found.item() == pytest.approx((3**0.5 - 1) ** 2)
