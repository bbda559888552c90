import csv
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

from srpipe import zoo
from srpipe.errors import ConfigError, DeviceError
from srpipe.models import MODELS
from training import checkpoint
from training.fit import Trainer, fit, main
from training.recipe import SHIPPED, read


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A preset that trains in milliseconds."""
    options = {**MODELS["eagcl"].presets["lite"], "merfs": 1, "width": 16, "growth": 8}
    monkeypatch.setitem(MODELS["eagcl"].presets, "tiny", options)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        y, x = np.mgrid[:48, :40]
        wave = np.sin(x / rng.uniform(1, 4)) * np.cos(y / rng.uniform(1, 4))
        grey = (127 + 100 * wave).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, -1)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def recipe(images):
    def make(**changes):
        defaults = {
            "model.preset": "tiny",
            "data.folder": images,
            "data.patch": 32,
            "data.batch": 2,
            "data.holdout": 0.2,
            "schedule.iterations": 6,
            "schedule.time_budget_s": 0,
            "run.log_every": 1,
            "run.precision": "32-true",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return read(
            SHIPPED / "eagcl-lite-x4-fidelity.toml", [f"{k}={v}" for k, v in defaults.items()]
        )

    return make


def weights(folder):
    (card,) = zoo.cards(folder)
    return zoo.tensors(card)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_read_and_names_its_own_weights(path):
    model = read(path).model
    assert f"{model.family}-{model.preset}-x{model.scale}-{model.stage}" == path.stem
    assert model.preset in MODELS[model.family].presets
    assert tomllib.loads(path.read_text())["model"]["family"] == model.family


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.lerning_rate=1", "did you mean 'optimiser.learning_rate"),
        ("dta.batch=1", "did you mean 'data"),
        ("data.batch=many", "data.batch takes int"),
        ("data.batch=1.5", "data.batch takes int"),
        ("batch", "write section.key=value"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        read(SHIPPED / "eagcl-lite-x4-fidelity.toml", [change])


def test_training_lowers_the_loss_and_exports_weights_with_a_card(recipe, tmp_path):
    card = fit(recipe(schedule__iterations=60, schedule__warmup=5), tmp_path / "run")
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(row["l1"]) + float(row["gradient_branch"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    loaded = zoo.Card.read(card)
    assert loaded.training["spent"]["steps"] == 60
    assert str(tmp_path) not in card.read_text()
    assert 0 < loaded.halo <= MODELS["eagcl"].halo(**MODELS["eagcl"].presets["tiny"])


def test_a_run_that_was_cut_goes_on_to_the_same_bits(recipe, tmp_path):
    fit(recipe(), tmp_path / "whole")
    half = recipe(schedule__iterations=6)
    import lightning_fabric

    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, precision="32-true")
    torch.manual_seed(half.run.seed)
    trainer = Trainer(half, fabric)
    from training.fit import _pairs

    pairs, _held = _pairs(half, fabric.device)
    batches = pairs.batches(2, 32, trainer.generator)
    for _ in range(3):
        trainer.step(*next(batches))
    (tmp_path / "cut").mkdir()
    checkpoint.save(trainer.state(), tmp_path / "cut" / "state.pt")
    fit(half, tmp_path / "cut")
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_another_recipe_does_not_go_on(recipe, tmp_path):
    fit(recipe(schedule__iterations=1), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optimiser\.learning_rate = 0\.001, not 0\.5"):
        fit(recipe(schedule__iterations=1, optimiser__learning_rate=0.5), tmp_path / "run")


def test_a_time_budget_ends_the_run_annealed(recipe, tmp_path):
    card = fit(recipe(schedule__iterations=10**6, schedule__time_budget_s=1), tmp_path / "run")
    assert 0 < zoo.Card.read(card).training["spent"]["steps"] < 10**4
    with (tmp_path / "run" / "log.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates[-1] < 0.2 * max(rates)


def test_a_loss_that_is_not_finite_is_named(recipe, tmp_path):
    with pytest.raises(DeviceError, match="the loss l1 is not finite"):
        fit(recipe(optimiser__learning_rate=1e30, schedule__warmup=1), tmp_path / "run")


def test_the_full_loss_moves_generator_and_critic(recipe, tmp_path):
    import lightning_fabric

    full = recipe(
        losses__adversarial=0.005, losses__gradient_correlation=0.005, optimiser__critic_width=8
    )
    trainer = Trainer(full, lightning_fabric.Fabric(accelerator="cpu", devices=1))
    before = {k: v.clone() for k, v in trainer.critic.state_dict().items()}
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    losses = trainer.step(low, high)
    assert set(losses) == {
        "l1", "gradient_correlation", "gradient_branch", "adversarial", "critic",
    }  # fmt: skip
    assert any(not torch.equal(before[k], v) for k, v in trainer.critic.state_dict().items())


def test_what_stands_in_the_way_is_one_line(capsys, tmp_path):
    assert (
        main(["eagcl-lite-x4-fidelity", f"data.folder={tmp_path}", "--run", f"{tmp_path}/r"]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1
