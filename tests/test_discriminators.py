import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from srpipe.errors import ConfigError
from training.discriminators import PooledCritic, VGGCritic


@pytest.mark.parametrize(
    ("make", "size", "parameters", "gmacs"),
    [
        (lambda: VGGCritic(128), 128, 14_502_281, 2.23),
        (lambda: VGGCritic(192), 192, 20_700_553, 5.13),
        (lambda: VGGCritic(192, norm="none"), 192, 20_692_745, 5.13),
        (lambda: PooledCritic(), 128, 5_215_425, 1.54),
    ],
)
def test_the_critics_have_their_parameters_and_cost(make, size, parameters, gmacs):
    with torch.device("meta"):
        critic = make()
        assert sum(p.numel() for p in critic.parameters()) == parameters
        with FlopCounterMode(display=False) as counter:
            assert critic(torch.rand(2, 3, size, size)).shape == (2, 1)
    assert counter.get_total_flops() / 4 / 1e9 == pytest.approx(gmacs, abs=0.005)


def test_a_critic_takes_only_sizes_that_it_can_halve():
    with pytest.raises(ConfigError, match="multiple of 32"):
        VGGCritic(100)


def test_the_pooled_critic_takes_any_size():
    critic = PooledCritic(width=4, norm="none")
    assert critic(torch.rand(1, 3, 33, 47)).shape == (1, 1)


@pytest.mark.parametrize("make", [lambda: VGGCritic(32, width=2), lambda: PooledCritic(width=2)])
def test_every_parameter_of_a_critic_gets_a_gradient_and_logits_are_full(make):
    critic = make()
    with torch.autocast("cpu", torch.bfloat16):
        logits = critic(torch.rand(2, 3, 32, 32))
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    assert all(p.grad is not None for p in critic.parameters())


def test_without_norm_every_image_is_judged_alone():
    torch.manual_seed(0)
    critic, x = VGGCritic(32, width=4, norm="none"), torch.rand(3, 3, 32, 32)
    assert torch.allclose(critic(x)[1:2], critic(x[1:2]), atol=1e-6)
