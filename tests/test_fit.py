import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1

from srpipe import zoo
from srpipe.errors import ConfigError, DeviceError
from srpipe.models import MODELS
from srpipe.precision import lower
from training import checkpoint
from training import fit as fit_module
from training import step as step_module
from training.fit import fit, launched, main
from training.losses import l1
from training.recipe import SHIPPED, read
from training.step import Parts, step
from training.watch import SHOWN_APART

RECIPE = SHIPPED / "eagcl-lite-x4-fidelity.toml"


@pytest.fixture(autouse=True)
def preset(monkeypatch):
    """A tiny preset, whose export does not measure what test_export.py sees to."""
    monkeypatch.setitem(MODELS["eagcl"].presets, "tiny", tiny.OPTIONS)
    monkeypatch.setattr("training.export.proven", lambda *_: ("fp32",))


@pytest.fixture
def words(tmp_path):
    """Changes to the recipe that make a run last for milliseconds, on pictures that it made."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        y, x = np.mgrid[:48, :40]
        wave = np.sin(x / rng.uniform(1, 4) + i) * np.cos(y / rng.uniform(1, 4))
        grey = (127 + 100 * wave).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "images" / f"{i}.png")

    def make(**changes):
        given = {
            "model.preset": "tiny",
            "data.folder": tmp_path / "images",
            "data.cache": tmp_path / "cache",
            "data.patch": 32,
            "data.batch": 2,
            "data.holdout": 0.2,
            "schedule.iterations": 6,
            "schedule.time_budget_s": 0,
            "run.log_every": 1,
            "run.precision": "32-true",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return [f"{key}={value}" for key, value in given.items()]

    return make


@pytest.fixture
def recipe(words):
    return lambda **changes: read(RECIPE, words(**changes))


ALL_OF_IT = {
    "losses__adversarial": 0.005,
    "losses__gradient_adversarial": 0.005,
    "losses__gradient_correlation": 0.005,
    "losses__steady": 100,
    "critic__width": 4,
    "critic__steps": 2,
    "data__noise": [1, 9],
    "data__jpeg": [40, 90],
}


BY_CHANCE = {"losses__steady": 0, "losses__lpips": 0.1, "losses__corners": 5, "data__patch": 36}


def in_its_own_process(*words):
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    script = [sys.executable, str(Path(__file__).with_name("tiny.py")), *map(str, words)]
    return subprocess.run(script, env=env, capture_output=True, text=True, timeout=300, check=False)


def weights(folder):
    (card,) = zoo.cards(folder)
    return zoo.tensors(card)


def log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_lowers_the_loss_and_exports_weights_with_a_card(recipe, tmp_path):
    card = fit(recipe(schedule__iterations=60, schedule__warmup=5), tmp_path / "run")
    losses = [float(row["l1"]) + float(row["gradient_branch"]) for row in log(tmp_path / "run")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert float(log(tmp_path / "run")[-1]["PSNR"]) > 10
    loaded = zoo.Card.read(card)
    assert loaded.training["spent"]["steps"] == 60
    assert str(tmp_path) not in card.read_text()
    assert 0 < loaded.halo <= MODELS["eagcl"].halo(**tiny.OPTIONS)
    assert loaded.precisions == ("fp32",)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
@pytest.mark.parametrize("losses", [ALL_OF_IT, BY_CHANCE])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(words, recipe, tmp_path, losses):
    """Killed as by ``kill -9`` in the middle of writing its third checkpoint."""
    features = squeezenet1_1().features.state_dict()
    backbone = tmp_path / "net.safetensors"
    save_file({f"features.{k}": v for k, v in features.items()}, backbone)
    how = {**losses, "run__checkpoint_every_s": 0, "losses__lpips_backbone": backbone}
    fit(recipe(**how), tmp_path / "whole")
    cut = tmp_path / "cut"
    done = in_its_own_process("--die-at", 3, RECIPE, *words(**how), "--run", cut)
    assert done.returncode == -9, done.stderr
    assert len(log(cut)) == 3
    fit(recipe(**how), cut)
    a, b = weights(tmp_path / "whole"), weights(cut)
    assert all(torch.equal(a[key], b[key]) for key in a)
    for before, after in zip(log(tmp_path / "whole"), log(cut), strict=True):
        for apart in ("seconds", "samples_per_s"):
            del before[apart], after[apart]
        assert before == after


def test_two_processes_come_to_the_result_of_one(words, recipe, tmp_path):
    how = {
        "losses__adversarial": 0.01,
        "losses__steady": 0,  # of the whole batch, and by chance: not the mean of the shares'
        "critic__game": "wgan-gp",
        "critic__norm": "none",
        "critic__width": 4,
        "data__noise": [1, 9],
        "data__batch": 4,
        "schedule__iterations": 3,
    }
    fit(recipe(**how), tmp_path / "one")
    done = in_its_own_process(RECIPE, *words(**how, run__devices=2), "--run", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert "2 x CPU" in done.stdout
    for before, after in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name in ("l1", "gradient_branch", "adversarial", "Loss_D", "Score_G", "gradient"):
            assert float(after[name]) == pytest.approx(float(before[name]), rel=1e-3, abs=1e-5)
    states = [torch.load(tmp_path / run / "state.pt", weights_only=True) for run in ("one", "two")]
    fresh = Parts(recipe(**how), launched(recipe(**how))).bare.state_dict()
    moved, apart = (
        torch.cat([(a[key] - b[key]).abs().flatten() for key in fresh]).mean()
        for a, b in ((states[0]["network"], fresh), (states[0]["network"], states[1]["network"]))
    )
    assert apart < 0.01 * moved


def test_what_stands_in_the_way_of_two_processes_is_one_line(words, tmp_path):
    """The second had a traceback of its own, of a neighbour that was gone."""
    for wrong in ({"data__folder": tmp_path / "none"}, {"model__preset": "tny"}):
        done = in_its_own_process(
            RECIPE, *words(**wrong, run__devices=2), "--run", tmp_path / "run"
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("training.fit: error: ") == 1
        assert "Traceback" not in done.stderr


def test_a_stop_of_two_processes_waits_until_the_first_has_saved(words, tmp_path):
    """The second had ended, and Lightning killed the first for it."""
    how = words(run__devices=2, run__checkpoint_every_s=0)
    done = in_its_own_process("--stop-at", 1, RECIPE, *how, "--run", tmp_path / "run")
    assert done.returncode == 130, done.stderr
    assert done.stderr.count("stopped; the same command goes on") == 1
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["clock"]["steps"] == 2


def test_a_card_says_what_was_spent_before_too(recipe, tmp_path):
    first = fit(recipe(schedule__iterations=2), tmp_path / "first")
    then = fit(recipe(schedule__iterations=1, model__start=str(first)), tmp_path / "then")
    before, spent = (zoo.Card.read(card).training["spent"] for card in (first, then))
    assert (spent["steps"], spent["before"]) == (1, before)
    assert "before" not in before


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_goes_on_whose_start_is_gone(recipe, tmp_path, kept, capsys):
    """What was spent before was read from its card again, if not from a checkpoint of then."""
    first = fit(recipe(schedule__iterations=2), tmp_path / "first")
    how = recipe(schedule__iterations=2, model__start=str(first))
    card, run = fit(how, tmp_path / "run"), tmp_path / "run"
    before = card.read_text()
    if kept:
        first.unlink()
    else:
        state = torch.load(run / "state.pt", weights_only=True)
        del state["before"]
        torch.save(state, run / "state.pt")
    capsys.readouterr()
    assert fit(how, run).read_text() == before
    assert capsys.readouterr().out.startswith("eagcl-tiny-x4-fidelity after 2 steps; ")


@pytest.mark.parametrize(("fast", "precision"), [("bf16", "bf16-mixed"), ("fp32", "32-true")])
def test_a_card_says_what_precision_auto_was(
    recipe, tmp_path, monkeypatch, capsys, fast, precision
):
    monkeypatch.setattr(fit_module, "best", lambda _device, _among: fast)
    card = fit(recipe(schedule__iterations=1, run__precision="auto"), tmp_path / "run")
    assert zoo.Card.read(card).training["spent"]["precision"] == precision
    assert f"CPU, {precision}; " in capsys.readouterr().out


def test_another_recipe_does_not_go_on(recipe, tmp_path):
    fit(recipe(schedule__iterations=1), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optimiser\.learning_rate = 0\.001, not 0\.5"):
        fit(recipe(schedule__iterations=1, optimiser__learning_rate=0.5), tmp_path / "run")


def test_a_time_budget_ends_the_run_annealed(recipe, tmp_path):
    card = fit(recipe(schedule__iterations=10**6, schedule__time_budget_s=1), tmp_path / "run")
    assert 0 < zoo.Card.read(card).training["spent"]["steps"] < 10**4
    rates = [float(row["learning_rate"]) for row in log(tmp_path / "run")]
    assert rates[-1] < 0.2 * max(rates)


def test_a_signal_stops_the_run_after_its_step_and_the_same_command_goes_on(recipe, tmp_path):
    import signal

    from training import fit as module

    real, taken = module.step, []

    def stopping(*args, **kwargs):
        values = real(*args, **kwargs)
        taken.append(values)
        if len(taken) == 2:
            signal.raise_signal(signal.SIGTERM)
        return values

    module.step = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(recipe(), tmp_path / "run")
        assert len(taken) == 3
        fit(recipe(), tmp_path / "run")
    finally:
        module.step = real
    assert len(taken) == 6
    assert [row["step"] for row in log(tmp_path / "run")] == list("123456")


def test_a_run_goes_on_that_knew_fewer_entries_of_a_recipe(recipe, tmp_path):
    fit(recipe(), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    del state["recipe"]["model"]["source"], state["recipe"]["data"]["h264"]
    torch.save(state, tmp_path / "run" / "state.pt")
    assert fit(recipe(), tmp_path / "run")
    del state["recipe"]["data"]["patch"]  # which has no default
    torch.save(state, tmp_path / "run" / "state.pt")
    with pytest.raises(ConfigError, match=r"begun with data\.patch = None"):
        fit(recipe(), tmp_path / "run")


def broken(kind):
    """Losses with one that gives a value, or a slope, that is not a number."""
    from training.losses import LOSSES

    def loss(image, truth):
        value = (image - truth).abs().mean()
        return value * torch.nan if kind == "loss" else value + (image * 0).sqrt().mean()

    return {**LOSSES, "mse": loss}


@pytest.mark.parametrize(
    ("kind", "message"),
    [("loss", "the loss mse is not finite at step 1"), ("slope", "the gradient is not finite")],
)
def test_what_is_not_finite_is_named_on_the_very_step(recipe, tmp_path, monkeypatch, kind, message):
    monkeypatch.setattr("training.objective.LOSSES", broken(kind))
    with pytest.raises(DeviceError, match=message):
        fit(recipe(losses__mse=1.0), tmp_path / "run")
    assert not (tmp_path / "run" / "state.pt").exists()


def test_what_is_said_of_a_step_that_is_not_finite_can_be_done(recipe, tmp_path):
    """To start from the last checkpoint was not possible, and it had weights of 1e30."""
    how = {"schedule__warmup": 0, "schedule__iterations": 2}
    advice = r"step 2; choose another run folder and a smaller optimiser\.learning_rate"
    with pytest.raises(DeviceError, match=advice):
        fit(recipe(**how, optimiser__learning_rate=1e30), tmp_path / "run")
    assert fit(recipe(**how, optimiser__learning_rate=1e-4), tmp_path / "other")


def test_corners_mean_nothing_where_no_network_compares_features(recipe, tmp_path):
    assert fit(recipe(schedule__iterations=1, losses__corners=40), tmp_path / "run")


def test_steps_that_are_read_late_are_the_same_steps(recipe, tmp_path, monkeypatch):
    """As on CUDA: the same weights, and the same log but for its times."""
    how, found = recipe(schedule__iterations=5, run__log_every=2), []
    for late in (False, True):
        monkeypatch.setattr(step_module, "reads_late", lambda _fabric, late=late: late)
        card = fit(how, tmp_path / str(late))
        rows = csv.DictReader((card.parent / "log.csv").read_text().splitlines())
        untimed = [{k: v for k, v in row.items() if k not in SHOWN_APART[1:]} for row in rows]
        found.append((untimed, load_file(card.with_suffix(".safetensors"))))
    (log, weights), (late_log, late_weights) = found
    assert [row["step"] for row in log] == ["2", "4", "5"]
    assert late_log == log
    assert all(torch.equal(late_weights[name], weights[name]) for name in weights)


@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_is_not_finite_is_not_taken(recipe, monkeypatch, late):
    monkeypatch.setattr("training.objective.LOSSES", broken("slope"))
    monkeypatch.setattr(step_module, "reads_late", lambda _fabric: late)
    how = recipe(losses__mse=1.0)
    parts = Parts(how, launched(how))
    before = [p.detach().clone() for p in parts.bare.parameters()]
    batches = iter([(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32))] * 2)
    if late:
        assert step(parts, batches, stop=False) == []
    with pytest.raises(DeviceError, match="the gradient is not finite at step 1;"):
        step(parts, batches, stop=False)
    for old, now in zip(before, parts.bare.parameters(), strict=True):
        assert torch.equal(old, now)


def test_the_full_loss_moves_the_generator_and_both_critics(recipe):
    full = recipe(**ALL_OF_IT)
    fabric = launched(full)
    parts = Parts(full, fabric)
    networks = [parts.bare, *(critic.bare for critic in parts.critics.values())]
    before = [[p.clone() for p in network.parameters()] for network in networks]
    batches = iter([(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32))] * 2)
    [values] = step(parts, batches, stop=False)
    assert set(values) == {
        "l1", "gradient_correlation", "gradient_branch", "steady", "adversarial",
        "gradient_adversarial", "Loss_D", "Loss_G", "Score_D", "Score_G", "gradient",
    }  # fmt: skip
    for old, network in zip(before, networks, strict=True):
        moved = [not torch.equal(a, b) for a, b in zip(old, network.parameters(), strict=True)]
        assert all(moved) if network is parts.bare else sum(moved) > len(moved) / 2
    assert next(batches, None) is None  # the critics' second step has a batch of its own


def test_what_is_learned_in_bfloat16_is_close_to_float32(recipe):
    """A step's losses, and the gradient of weights that stay in float32 and move."""
    given = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    slopes, losses = [], []
    for precision in ("32-true", "bf16-mixed"):
        how = recipe(run__precision=precision, losses__gradient_correlation=0.1)
        parts = Parts(how, launched(how))
        before = [p.detach().clone() for p in parts.bare.parameters()]
        losses += step(parts, iter([given]), stop=False)
        assert (parts.lowered is None) == (precision == "32-true")
        for old, now in zip(before, parts.bare.parameters(), strict=True):
            assert now.dtype == torch.float32
            assert not torch.equal(old, now)
        slopes.append(torch.cat([p.grad.flatten() for p in parts.bare.parameters()]))
    for name in ("l1", "gradient_branch", "gradient_correlation"):
        assert losses[1][name] == pytest.approx(losses[0][name], rel=0.01)
    assert float(torch.cosine_similarity(*slopes, 0)) > 0.99


def test_in_bfloat16_too_a_network_sees_pixels_in_full(recipe):
    parts = Parts(how := recipe(run__precision="bf16-mixed"), launched(how))
    seen = []
    parts.lowered.register_forward_pre_hook(lambda _network, given: seen.append(given[0]))
    low, high = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    step(parts, iter([(low, high)]), stop=False)
    assert torch.equal(seen[0][: len(low)], low)
    assert not torch.equal(low, low.bfloat16().float())


def test_a_step_in_bfloat16_begins_with_what_the_step_before_came_to(recipe):
    how = recipe(run__precision="bf16-mixed", optimiser__learning_rate=0.1)
    parts = Parts(how, launched(how))
    given = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32)
    [first] = step(parts, iter([given]), stop=False)
    # with gradients, as a step: without, a convolution and its activation are rounded once
    wanted = l1(lower(parts.bare, torch.bfloat16)(given[0]), given[1]).detach()
    [second] = step(parts, iter([given]), stop=False)
    assert second["l1"] == float(wanted) != first["l1"]


@pytest.mark.parametrize(("clip", "largest"), [(0.01, 0.0101), (0, 1e9)])
def test_the_gradient_is_clipped_where_it_is_asked_for(recipe, clip, largest):
    how = recipe(optimiser__clip=clip)
    parts = Parts(how, launched(how))
    batch = (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32))
    [values] = step(parts, iter([batch]), stop=False)
    norm = torch.stack([p.grad.norm() for p in parts.bare.parameters()]).norm()
    assert norm < largest
    assert values["gradient"] > 0.011
    if not clip:
        assert float(norm) == pytest.approx(values["gradient"], rel=1e-4)


def dying(monkeypatch, name, after, module=fit_module):
    """A part of the loop that fails when it is asked for once more than so often."""
    real, count = getattr(module, name), [0]

    def die(*args, **kwargs):
        count[0] += 1
        if count[0] > after:
            raise MemoryError(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, die)


def test_a_run_whose_validation_fails_keeps_its_steps(recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dying(patch, "validate", 0, step_module)
        with pytest.raises(MemoryError):
            fit(recipe(), tmp_path / "run")
    dying(monkeypatch, "step", 0)  # all were taken
    assert fit(recipe(), tmp_path / "run").exists()


def test_a_row_of_a_run_that_goes_on_has_all_of_its_steps(recipe, tmp_path, monkeypatch):
    how = recipe(run__log_every=3, run__checkpoint_every_s=0)
    fit(how, tmp_path / "whole")
    with monkeypatch.context() as patch:
        dying(patch, "step", 5)
        with pytest.raises(MemoryError):
            fit(how, tmp_path / "cut")
    fit(how, tmp_path / "cut")
    losses = [[(row["step"], row["l1"]) for row in log(tmp_path / run)] for run in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_a_run_does_not_go_on_with_other_pictures(recipe, tmp_path):
    fit(recipe(schedule__iterations=1), tmp_path / "run")
    os.rename(tmp_path / "images", tmp_path / "moved")
    fit(recipe(schedule__iterations=1, data__folder=tmp_path / "moved"), tmp_path / "run")
    (tmp_path / "moved" / "5.png").unlink()
    with pytest.raises(ConfigError, match="begun with other pictures than"):
        fit(recipe(schedule__iterations=1, data__folder=tmp_path / "moved"), tmp_path / "run")


def test_a_network_without_gradient_maps_cannot_be_held_to_them(recipe, tmp_path):
    how = recipe(model__family="rdam", model__preset="lite", losses__gradient_branch=1)
    with pytest.raises(ConfigError, match="rdam predicts no gradient maps"):
        fit(how, tmp_path / "run")


def test_a_run_folder_that_is_a_file_is_one_line(words, capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert main([str(RECIPE), *words(), "--run", str(tmp_path / "taken")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "taken" in error


def test_a_run_folder_may_have_any_name(words, capsys, tmp_path):
    """TensorBoard had a traceback for what is no text, and then the line with the card's path."""
    run = tmp_path / os.fsdecode(b"r\xff")
    assert main([str(RECIPE), *words(schedule__iterations=1), "--run", str(run)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "left out" in out[1]
    assert out[-1].endswith("/r\\udcff/eagcl-tiny-x4-fidelity.json")
    assert [row["step"] for row in log(run)] == ["1"]


def test_what_stands_in_the_way_is_one_line(capsys, tmp_path):
    words = [f"data.folder={tmp_path}", f"data.cache={tmp_path}", "--run", f"{tmp_path}/r"]
    assert main(["eagcl-lite-x4-fidelity", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("broken", ["empty", "text", "a part is missing"])
def test_what_is_no_checkpoint_is_one_line(words, recipe, capsys, tmp_path, broken):
    """PyTorch says what a network lacks in several; of others, no more than a number."""
    state = tmp_path / "r" / "state.pt"
    if broken == "a part is missing":
        fit(recipe(schedule__iterations=1), tmp_path / "r")
        held = torch.load(state, weights_only=True)
        del held["network"]["head.weight"]
        torch.save(held, state)
    else:
        state.parent.mkdir()
        state.write_text("hello" if broken == "text" else "")
    capsys.readouterr()
    assert main([str(RECIPE), *words(schedule__iterations=1), "--run", str(state.parent)]) == 1
    error = capsys.readouterr().err
    assert re.search(r"state\.pt is no checkpoint \(.*\w{4}.*\); remove it to start anew\n$", error)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), PermissionError(13, "not permitted")]
)
def test_a_checkpoint_that_is_sound_is_not_to_be_removed(
    words, recipe, capsys, tmp_path, monkeypatch, error
):
    """Where memory ran out as it was read, or where it may not be read."""
    fit(recipe(schedule__iterations=1), tmp_path / "r")

    def load(*_args, **_more):
        raise error

    monkeypatch.setattr(torch, "load", load)
    capsys.readouterr()
    assert main([str(RECIPE), *words(schedule__iterations=1), "--run", str(tmp_path / "r")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "out of memory" in said or "not permitted" in said
    assert "remove" not in said


def test_memory_that_runs_out_is_one_line(words, capsys, tmp_path, monkeypatch):
    def step(*_args, **_more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(fit_module, "step", step)
    assert main([str(RECIPE), *words(), "--run", str(tmp_path / "r")]) == 1
    assert capsys.readouterr().err == (
        "training.fit: error: memory ran out at a run with data.batch = 2 and data.patch = 32"
        " (CUDA out of memory. Tried to allocate 9 GiB); free memory\n"
    )


def test_a_checkpoint_that_the_disk_has_no_room_for_is_told_and_the_old_one_stays(tmp_path):
    resource = pytest.importorskip("resource")
    path, layer = tmp_path / "state.pt", torch.nn.Linear(300, 300)
    checkpoint.save(path, {}, {"layer": layer})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.save(path, {}, {"layer": layer})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]


def test_a_second_run_in_one_folder_is_refused_in_one_line(words, tmp_path, capsys):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "busy"
    folder.mkdir()
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main([str(RECIPE), *words(), "--run", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"training.fit: error: another run is at work in {folder}; wait for its end, or give --run"
        " another folder\n"
    )
    assert [each.name for each in folder.iterdir()] == ["lock"]
