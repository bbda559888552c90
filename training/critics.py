"""The critics of a run: each a network, its optimiser, and the game it plays with the generator."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from srpipe.errors import ConfigError
from srpipe.gradients import gradient_map
from training.adversarial import GAMES, gradient_penalty
from training.discriminators import PooledCritic, VGGCritic
from training.optimiser import adam
from training.recipe import Recipe


class Critic:
    """A network that learns to tell enlarged images from real ones.

    Parameters
    ----------
    sees : what it looks at: images as they are, or their gradient maps
    """

    def __init__(self, recipe: Recipe, fabric: Fabric, sees: Callable[[Tensor], Tensor]) -> None:
        settings = recipe.critic
        self.fabric, self.sees = fabric, sees
        self.game, self.penalty = GAMES[settings.game], settings.penalty
        self.bare = _network(recipe).to(memory_format=torch.channels_last)
        own = adam(self.bare, settings.learning_rate, settings.betas, fabric.device)
        self.network, self.adam = fabric.setup(self.bare, own)

    def learn(self, real: Tensor, fake: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step; its loss, and the mean answers to real and to enlarged images.

        Parameters
        ----------
        share : Tensor of shape (N, 1, 1, 1), where between the two the slope is penalised
        """
        self.bare.requires_grad_(True)
        real, fake = self.sees(real), self.sees(fake.detach())
        answers = self.network(real), self.network(fake)
        loss = self.game.critic(*answers)
        if self.game.penalised:
            loss = loss + self.penalty * gradient_penalty(self.bare, real, fake, share)
        self.adam.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.adam.step()
        real_score, fake_score = (self.game.score(each.detach()).mean() for each in answers)
        return loss.detach(), real_score, fake_score

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the generator makes small; nothing flows into the critic."""
        self.bare.requires_grad_(False)
        known = torch.zeros(())
        with self.fabric.autocast():
            if self.game.relative:
                with torch.no_grad():
                    known = self.bare(self.sees(real))
            return self.game.generator(known, self.bare(self.sees(fake)))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {"network": self.bare.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.bare.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


def critics(recipe: Recipe, fabric: Fabric) -> dict[str, Critic]:
    """One critic for each loss that needs one, by the loss's name."""
    sights = {"adversarial": lambda image: image, "gradient_adversarial": gradient_map}
    return {
        name: Critic(recipe, fabric, sees)
        for name, sees in sights.items()
        if getattr(recipe.losses, name)
    }


def _network(recipe: Recipe) -> VGGCritic | PooledCritic:
    settings, patch = recipe.critic, recipe.data.patch
    network: VGGCritic | PooledCritic
    if settings.network == "pooled":
        network = PooledCritic(width=settings.width, norm=settings.norm)
    else:
        network = VGGCritic(patch, width=settings.width, norm=settings.norm)
    alone = recipe.data.batch == recipe.run.devices and patch <= network.reduced
    if alone and settings.norm == "batch":
        raise ConfigError(
            f"batch norm has one number to take statistics of where one square of {patch} px is"
            " judged; use a larger data.batch or data.patch, or critic.norm = none"
        )
    return network
