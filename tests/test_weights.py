"""What the shipped weights are worth, measured again: their cards say the same."""

from functools import cache
from pathlib import Path

import pytest

from srpipe import zoo
from srpipe.evaluation import evaluate
from srpipe.settings import EvalSettings

SHARED = Path(__file__).parents[2] / "shared"
BACKBONE = SHARED / "weights" / "squeezenet1_1_features.safetensors"

pytestmark = [pytest.mark.weights, pytest.mark.shared]

GAIN_DB = {"Set5": 2.1, "Set14": 1.4}
"""PSNR-Y of the fidelity weights over bicubic, at least."""

LPIPS_SHARE = 0.6
"""LPIPS of the perception weights against bicubic's, at most."""

LOSS_DB = 0.7
"""PSNR-Y of the perception weights below bicubic, at most."""


@cache
def measured(data):
    """Mean metrics on a data set of each stage, and of bicubic, which is stage None."""
    folder = SHARED / "data" / "eval" / data
    if not folder.is_dir() or not BACKBONE.exists():
        pytest.skip(f"{data} and SqueezeNet's weights are not beside the project")
    settings = EvalSettings(model=("eagcl-lite",), lpips=(f"squeeze={BACKBONE}",))
    rows = evaluate([folder], settings).rows
    return {r.model and zoo.STAGES[int(r.perception)]: r.values for r in rows}


@pytest.mark.parametrize("data", GAIN_DB)
def test_the_fidelity_weights_are_nearer_to_the_truth_than_bicubic(data):
    gain = measured(data)["fidelity"]["psnr_y"] - measured(data)[None]["psnr_y"]
    assert gain >= GAIN_DB[data]


@pytest.mark.parametrize("data", GAIN_DB)
def test_the_perception_weights_look_nearer_and_stay_near(data):
    bicubic, ours = measured(data)[None], measured(data)["perception"]
    assert ours["lpips_squeeze"] <= LPIPS_SHARE * bicubic["lpips_squeeze"]
    assert ours["psnr_y"] >= bicubic["psnr_y"] - LOSS_DB


@pytest.mark.parametrize("stage", zoo.STAGES)
@pytest.mark.parametrize("data", GAIN_DB)
def test_the_cards_say_what_is_measured(data, stage):
    card = zoo.find("eagcl-lite").cards[stage]
    found, said = measured(data)[stage], card.metrics["values"][data]
    assert said == pytest.approx({name: found[name] for name in said}, abs=0.01)
