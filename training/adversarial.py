"""How a generator and its critic contend: what each of the two is trained to make small.

A critic answers with logits, one per image, higher where it takes the image for real. `GAMES` names
what is made of the answers; all of it is computed in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from srpipe.gradients import full_precision


def relativistic(wins: Tensor, loses: Tensor) -> Tensor:
    """Relativistic average adversarial loss: small where ``wins`` lie above ``loses``.

    Jolicoeur-Martineau 2018, arXiv:1807.00734, as in ESRGAN: the mean of the cross entropies of
    ``wins - mean(loses)`` towards 1 and ``loses - mean(wins)`` towards 0. The critic wants the
    real ones to win, the generator its own.

    Parameters
    ----------
    wins, loses : critic's logits of shape (N, 1)
    """
    up = F.softplus(-(wins.float() - loses.float().mean()))
    down = F.softplus(loses.float() - wins.float().mean())
    return (up.mean() + down.mean()) / 2


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """``mean D(fake) - mean D(real)``: less the Wasserstein distance that the critic has found.

    Arjovsky et al. 2017, arXiv:1701.07875; it holds for critics with a slope of at most 1, which
    `gradient_penalty` sees to. In the units of the critic's answers, without bound.
    """
    return fake.float().mean() - real.float().mean()


def told_apart(real: Tensor, fake: Tensor) -> Tensor:
    """``1 - mean D(real) + mean D(fake)`` with D in 0..1 (attention-SRGAN): 0 when all are told."""
    return 1 - real.float().sigmoid().mean() + fake.float().sigmoid().mean()


def seen_through(fake: Tensor) -> Tensor:
    """``mean(1 - D(fake))`` with D in 0..1 (attention-SRGAN): 0 when all are taken for real."""
    return (1 - fake.float().sigmoid()).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor
) -> Tensor:
    """``mean((|dD/dx| - 1)²)`` at ``x = share * real + (1 - share) * fake``.

    Gulrajani et al. 2017, arXiv:1704.00028; the length is over all samples of an image. All of it
    is in float32, the critic too: differentiated twice, half precision overflows.

    Parameters
    ----------
    critic : images (N, 3, H, W) to logits (N, 1), each of its own image alone
    share : Tensor of shape (N, 1, 1, 1), in 0..1
    """
    with full_precision(real):
        x = torch.lerp(fake.detach().float(), real.detach().float(), share).requires_grad_()
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@dataclass(frozen=True)
class Game:
    """Two losses of a critic's answers.

    Parameters
    ----------
    critic : answers to real and to enlarged images to what the critic makes small
    generator : the same answers to what the generator makes small
    relative : whether the generator's loss looks at the answers to real images
    penalised : whether the critic's slope is kept near 1
    score : an answer as it is shown
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    relative: bool = False
    penalised: bool = False
    score: Callable[[Tensor], Tensor] = torch.Tensor.float


GAMES: dict[str, Game] = {
    "ragan": Game(relativistic, lambda real, fake: relativistic(fake, real), relative=True),
    "wgan-gp": Game(wasserstein, lambda _real, fake: -fake.float().mean(), penalised=True),
    "attsrgan": Game(
        told_apart,
        lambda _real, fake: seen_through(fake),
        score=lambda answers: answers.float().sigmoid(),
    ),
}
"""What a generator and a critic can play."""
