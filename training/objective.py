"""What the generator makes small, but for the critics: a recipe's losses, weighed, by name."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from training.losses import LOSSES, Lpips, Perceptual, cut, gradient_supervision, grid, steady
from training.recipe import Losses


class Objective:
    """The losses of a recipe that have a weight.

    Raises
    ------
    ConfigError
        If a package that a loss needs is not installed.
    WeightsError
        If the file with the weights of a loss's network is missing or holds others.
    """

    def __init__(self, weights: Losses, scale: int, fabric: Fabric) -> None:
        self.weights, self.scale, self.fabric = weights, scale, fabric
        self.networks: dict[str, nn.Module] = {}
        if weights.perceptual:
            vgg = Perceptual(weights.vgg, criterion=weights.vgg_criterion)
            self.networks["perceptual"] = vgg.to(fabric.device)
        if weights.lpips:
            lpips = Lpips(weights.lpips_net, weights.lpips_backbone)
            self.networks["lpips"] = lpips.to(fabric.device)

    def terms(
        self,
        image: Tensor,
        edges: Sequence[Tensor],
        truth: Tensor,
        noise: Generator,
        shaken: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each loss times its weight.

        VGG19 runs in the run's precision; all others are computed in float32.

        Parameters
        ----------
        edges : the gradient maps that the network predicts, where `gradient_branch` has a weight
        noise : on the image's device; of it is drawn where the networks' squares begin
        shaken : the image again, of a network that was shaken, where `steady` has a weight
        """
        terms = {
            name: getattr(self.weights, name) * loss(image, truth)
            for name, loss in LOSSES.items()
            if getattr(self.weights, name)
        }
        if self.weights.gradient_branch:
            terms["gradient_branch"] = self.weights.gradient_branch * gradient_supervision(
                edges, truth
            )
        if self.weights.grid:
            terms["grid"] = self.weights.grid * grid(image, truth, self.scale)
        if shaken is not None:
            terms["steady"] = self.weights.steady * steady(shaken, image)
        corners = self.weights.corners
        if corners > 1 and self.networks:
            corner = torch.randint(corners, (2,), generator=noise, device=image.device)
            image, truth = cut(image, corner, corners), cut(truth, corner, corners)
        with self.fabric.autocast():
            for name, network in self.networks.items():
                terms[name] = getattr(self.weights, name) * network(image, truth)
        return terms
