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
    terms = Objective(weights, 2, fabric).terms(image, [torch.zeros(2, 3, 8, 8)], truth)
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
