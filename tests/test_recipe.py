import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from srpipe import zoo
from srpipe.errors import ConfigError
from srpipe.models import MODELS
from training.adversarial import GAMES
from training.discriminators import PooledCritic, VGGCritic
from training.losses import LOSSES
from training.recipe import SHIPPED, Recipe, read, to_dict

ALL = sorted(SHIPPED.glob("*.toml"))
STAGES = {"eagcl": 2, "attsrgan": 2, "dggn": 2, "rdam": 1, "gpsr": 1}


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_shipped_recipe_names_its_own_weights_and_can_be_built(path):
    recipe = read(path)
    model = recipe.model
    assert model.stem == path.stem
    assert (model.source == "compressed") == any(recipe.data.h264 + recipe.data.jpeg)
    spec = MODELS[model.family]
    assert model.scale in spec.scales
    with torch.device("meta"):
        spec.build(scale=model.scale, **spec.presets[model.preset])
        if recipe.losses.adversarial or recipe.losses.gradient_adversarial:
            assert recipe.critic.game in GAMES
            if recipe.critic.network == "vgg":
                VGGCritic(recipe.data.patch, width=recipe.critic.width, norm=recipe.critic.norm)
            else:
                PooledCritic(width=recipe.critic.width, norm=recipe.critic.norm)
    assert recipe.data.patch % model.scale == 0
    assert not recipe.losses.gradient_branch or spec.gradient


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_every_part_of_a_network_is_reached_by_a_loss_of_its_recipe(path):
    """A gradient branch without a loss of its own would not learn what a gradient is."""
    recipe = read(path)
    weights = dataclasses.asdict(recipe.losses)
    assert any(weights[name] for name in (*LOSSES, "perceptual", "lpips"))
    assert MODELS[recipe.model.family].gradient == bool(recipe.losses.gradient_branch)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_a_recipe_starts_from_what_another_recipe_makes(path):
    start = read(path).model.start
    assert not start or set(re.split(" [+-] ", start)) <= {p.stem for p in ALL}
    assert ("perception" in path.stem) <= bool(start)


@pytest.mark.parametrize("family", STAGES)
def test_every_preset_and_scale_of_a_model_has_a_recipe_for_each_stage(family):
    wanted = {
        f"{family}-{preset}-x{scale}-{stage}"
        for preset in ("paper", "lite")
        for scale in MODELS[family].scales
        for stage in zoo.STAGES[: STAGES[family]]
        if family != "attsrgan" or scale == 4
    }
    clean = {p.stem for p in ALL if read(p).model.source == "clean"}
    assert {stem for stem in clean if stem.startswith(family)} == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimiser.lerning_rate=1", "did you mean 'optimiser.learning_rate"),
        ("dta.batch=1", "did you mean 'data"),
        ("data.batch=many", "data.batch takes int"),
        ("data.batch=1.5", "data.batch takes int"),
        ("data.noise=[1]", "data.noise takes two numbers"),
        ("data.noise=5", "data.noise takes two numbers"),
        ("data.reduction=bicbic", "data.reduction cannot be 'bicbic'; did you mean 'bicubic'"),
        ("critic.game=ragen", "critic.game cannot be 'ragen'; did you mean 'ragan'"),
        ("model.stage=first", "model.stage cannot be 'first'; there are fidelity, perception"),
        ("schedule.halve_at=often", "schedule.halve_at takes a list of numbers"),
        ("critic.game=wgan-gp", "batch norm mixes them; set critic.norm = none"),
        ("run.devices=3", "a batch of 8 cannot be shared by 3 devices"),
        ("run.precision=16-mixed", "run.precision cannot be '16-mixed'; did you mean 'bf16-mixed'"),
        ("schedule.iterations=0", "schedule.iterations cannot be 0; it takes 1 or more"),
        ("run.log_every=0", "run.log_every cannot be 0; it takes 1 or more"),
        ("run.devices=0", "run.devices cannot be 0; it takes 1 or more"),
        ("data.batch=-8", "data.batch cannot be -8; it takes 1 or more"),
        ("data.patch=0", "data.patch cannot be 0; it takes 1 or more"),
        ("data.jpeg=[0, 90]", r"data.jpeg cannot be \(0, 90\); it takes the least and then"),
        ("data.jpeg=[90, 30]", r"data.jpeg cannot be \(90, 30\)"),
        ("data.jpeg=[30, 101]", r"data.jpeg cannot be \(30, 101\)"),
        ("data.noise=[9, 1]", r"data.noise cannot be \(9.0, 1.0\); it takes the least"),
        ("data.noise=[-1, 1]", r"data.noise cannot be \(-1.0, 1.0\)"),
        ("optimiser.betas=[0.9, 1]", r"optimiser.betas cannot be \(0.9, 1.0\); it takes two of"),
        ("optimiser.learning_rate=nan", "optimiser.learning_rate cannot be nan; .* more than 0"),
        ("optimiser.clip=-1", "optimiser.clip cannot be -1.0; it takes 0 or more"),
        ("losses.l1=-1", "losses.l1 cannot be -1.0; it takes 0 or more"),
        ("losses.perceptual=nan", "losses.perceptual cannot be nan; it takes 0 or more"),
        ("data.holdout=0", "data.holdout cannot be 0.0; it takes more than 0 and less than 1"),
        ("schedule.warmup=-5", "schedule.warmup cannot be -5; it takes 0 or more"),
        ("schedule.halve_at=[-1]", r"schedule.halve_at cannot be \(-1,\); it takes numbers of 1"),
        ("run.validate_every_s=nan", "run.validate_every_s cannot be nan; it takes 0 or more"),
        ("data.jpeg=[30.7, 80.2]", "data.jpeg takes two numbers"),
        ("data.jpeg=[true, 80]", "data.jpeg takes two numbers"),
        ('data.noise=["1", "2"]', "data.noise takes two numbers"),
        ('data.batch="4"', "data.batch takes int"),
        ("run.ema=1", "run.ema cannot be 1.0; it takes at least 0 and less than 1"),
        ("critic.steps=0", "critic.steps cannot be 0; it takes 1 or more"),
        ("critic.width=0", "critic.width cannot be 0; it takes 1 or more"),
        ("schedule.time_budget_s=-1", "schedule.time_budget_s cannot be -1.0; it takes 0 or more"),
        ("schedule.floor=-3", "schedule.floor cannot be -3.0; it takes 0 to 1"),
        ("schedule.floor=nan", "schedule.floor cannot be nan; it takes 0 to 1"),
        ("run.seed=99999999999999999999", "run.seed cannot be 9+; it takes a number of 64 bits"),
        ("data=1", "write section.key=value"),
        ("batch", "write section.key=value"),
    ],
)
def test_a_wrong_key_or_value_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        read(SHIPPED / "eagcl-lite-x4-fidelity.toml", [change])


def test_a_missing_recipe_and_a_missing_key_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing is no recipe.*there are .*eagcl-lite-x4"):
        read(tmp_path / "nothing")
    (tmp_path / "short.toml").write_text("[data]\npatch = 32\n")
    with pytest.raises(ConfigError, match=r"the recipe's section data.*batch"):
        read(tmp_path / "short.toml")


@pytest.mark.parametrize(("loss", "side"), [("perceptual", 16), ("lpips", 32)])
def test_patches_that_a_network_which_compares_features_cannot_see_are_refused(loss, side):
    changes = [f"losses.{loss}=1", f"data.patch={side - 4}"]
    with pytest.raises(ConfigError, match=f"the loss {loss} needs patches of {side} px or more"):
        read(SHIPPED / "rdam-lite-x4-fidelity.toml", changes)
    read(SHIPPED / "rdam-lite-x4-fidelity.toml", [*changes, f"data.patch={side}"])
    changes += ["losses.corners=9", f"data.patch={side + 4}"]
    with pytest.raises(ConfigError, match=f"needs patches of {side + 8} px or more"):
        read(SHIPPED / "rdam-lite-x4-fidelity.toml", changes)


def test_a_network_for_compressed_pictures_has_to_see_some():
    path = SHIPPED / "eagcl-lite-x4-compressed-fidelity.toml"
    assert read(path, ["data.h264=[0, 0]"]).model.source == "compressed"
    with pytest.raises(ConfigError, match=r"has to see some; set data\.h264 or data\.jpeg"):
        read(path, ["data.h264=[0, 0]", "data.jpeg=[0, 0]"])


def test_a_recipe_without_any_loss_is_refused():
    with pytest.raises(ConfigError, match="every loss has a weight of 0"):
        read(SHIPPED / "rdam-lite-x4-fidelity.toml", ["losses.l1=0"])


def test_what_is_no_recipe_is_named_and_not_a_traceback(tmp_path, monkeypatch):
    (tmp_path / "latin.toml").write_bytes("# übung".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.toml is no recipe \('utf-8'"):
        read(tmp_path / "latin.toml")
    (tmp_path / "flat.toml").write_text("model = 3\n")
    with pytest.raises(ConfigError, match="model is a section of a recipe, not a value"):
        read(tmp_path / "flat.toml", ["model.scale=2"])


def test_a_folder_does_not_hide_a_shipped_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rdam-lite-x2-fidelity").mkdir()
    assert read(Path("rdam-lite-x2-fidelity")).model.family == "rdam"


@pytest.mark.parametrize("name", ["2024", "2024_01", "1.10", "0x10", "true"])
def test_a_folder_may_have_a_number_for_a_name(name):
    changes = [f"data.folder={name}", f"data.about={name}"]
    recipe = read(SHIPPED / "eagcl-lite-x4-fidelity.toml", changes)
    assert (recipe.data.folder, recipe.data.about) == (Path(name), name)


def test_lists_are_read_as_they_are_declared():
    recipe = read(
        SHIPPED / "eagcl-lite-x4-fidelity.toml",
        ["schedule.halve_at=[5, 9]", "data.noise=[0, 12.5]", "data.jpeg=[30, 95]"],
    )
    assert recipe.schedule.halve_at == (5, 9)
    assert recipe.data.noise == (0.0, 12.5)
    assert recipe.data.jpeg == (30, 95)


def test_a_recipe_as_plain_values_makes_the_same_recipe():
    from training.recipe import _build

    recipe = read(SHIPPED / "eagcl-lite-x4-perception.toml")
    assert _build(Recipe, json.loads(json.dumps(to_dict(recipe))), "") == recipe
