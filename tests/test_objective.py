import pytest
import torch
from lightning_fabric import Fabric

from srpipe.errors import WeightsError
from training.losses import LOSSES, grid
from training.objective import Objective
from training.recipe import Losses


@pytest.fixture
def fabric():
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def test_every_plain_loss_has_its_weight_in_a_recipe():
    assert {*LOSSES, "grid"} <= set(Losses.__dataclass_fields__)


def test_terms_are_the_losses_that_have_a_weight_times_it(fabric):
    image, truth = torch.rand(2, 2, 3, 16, 16)
    weights = Losses(l1=2.0, gradient_mse=0.5, gradient_branch=3.0, grid=4.0)
    edges = [torch.zeros(2, 3, 8, 8)]
    terms = Objective(weights, 2, fabric).terms(image, edges, truth, torch.Generator())
    assert set(terms) == {"l1", "gradient_mse", "gradient_branch", "grid"}
    assert terms["l1"] == 2 * LOSSES["l1"](image, truth)
    assert terms["gradient_mse"] == 0.5 * LOSSES["gradient_mse"](image, truth)
    assert terms["gradient_branch"] > 0
    assert terms["grid"] == 4 * grid(image, truth, 2)


@pytest.mark.parametrize("name", ["perceptual", "lpips"])
def test_a_network_that_is_not_there_is_asked_for_at_once(fabric, tmp_path, name):
    files = {"vgg": tmp_path / "none.safetensors", "lpips_backbone": tmp_path / "none.safetensors"}
    with pytest.raises(WeightsError, match="set the loss's weight to 0"):
        Objective(Losses(**{name: 1.0}, **files), 4, fabric)
    Objective(Losses(**files), 4, fabric)


def test_networks_see_squares_from_every_corner_and_plain_losses_all_of_them(fabric):
    image, truth = torch.rand(2, 1, 3, 16, 16)
    objective = Objective(Losses(l1=1.0, corners=3), 4, fabric)
    seen = []

    def look(image, truth):
        seen.append((image, truth))
        return image.mean()

    objective.networks["lpips"] = look
    noise = torch.Generator().manual_seed(0)
    for _step in range(60):
        terms = objective.terms(image, [], truth, noise)
        assert terms["l1"] == LOSSES["l1"](image, truth)
    begin = {
        (y, x)
        for mine, its in seen
        for y in range(3)
        for x in range(3)
        if torch.equal(mine, image[..., y : y + 14, x : x + 14])
        and torch.equal(its, truth[..., y : y + 14, x : x + 14])
    }
    assert len(begin) == 9
    assert {each.shape[-2:] for pair in seen for each in pair} == {(14, 14)}
