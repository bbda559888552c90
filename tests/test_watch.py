import csv

import pytest
import torch

from training.clock import Clock
from training.recipe import SHIPPED, read
from training.validate import Findings
from training.watch import Watch

ATTSRGAN = ["Loss_D", "Loss_G", "Score_D", "Score_G", "PSNR", "SSIM"]


@pytest.fixture
def recipe():
    return read(SHIPPED / "eagcl-lite-x4-fidelity.toml", ["schedule.iterations=100"])


def clock(recipe, steps):
    made = Clock(recipe.schedule)
    made.load_state_dict({"steps": steps, "seconds": float(steps)})
    return made


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_entry_has_the_means_since_the_last_and_the_base_codes_columns(recipe, tmp_path, capsys):
    with Watch(tmp_path, 0) as watch:
        watch.see([{"l1": 1.0, "Loss_G": 2.0}])
        watch.see([{"l1": 3.0, "Loss_G": 4.0}])
        watch.entry(recipe, clock(recipe, 2), None)
        watch.see([{"l1": 7.0, "Loss_G": 7.0}])
        watch.entry(recipe, clock(recipe, 3), Findings(30.0, 0.9, torch.rand(3, 4, 6)))
    first, second = rows(tmp_path)
    assert set(ATTSRGAN) <= set(first)
    assert (first["step"], first["l1"], first["Loss_G"]) == ("2", "2", "3")
    assert (first["Loss_D"], first["PSNR"]) == ("", "")
    assert (second["l1"], second["PSNR"], second["SSIM"]) == ("7", "30", "0.9")
    lines = capsys.readouterr().out.splitlines()
    assert "2/100" in lines[0]
    assert "samples/s" in lines[0]
    assert "0:01:38 left" in lines[0]
    assert (tmp_path / "held_out.png").exists()


def test_steps_that_are_taken_again_are_logged_once(recipe, tmp_path):
    with Watch(tmp_path, 0) as watch:
        for step in (1, 2, 3):
            watch.see([{"l1": float(step)}])
            watch.entry(recipe, clock(recipe, step), None)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("a remark\n4,0.1")  # cut off
    with Watch(tmp_path, 2) as watch:
        watch.see([{"l1": 30.0}])
        watch.entry(recipe, clock(recipe, 3), None)
    assert [(row["step"], row["l1"]) for row in rows(tmp_path)] == [
        ("1", "1"), ("2", "2"), ("a remark", None), ("3", "30"),
    ]  # fmt: skip
    assert b"\r" not in (tmp_path / "log.csv").read_bytes()


def test_the_rate_in_the_log_is_the_one_that_the_step_had(recipe, tmp_path):
    made = clock(recipe, 99)
    wanted = recipe.optimiser.learning_rate * made.share
    made.advance(0.1, stop=False)
    with Watch(tmp_path, 0) as watch:
        watch.see([{"l1": 1.0}])
        watch.entry(recipe, made, None)
    assert wanted > 0
    assert float(rows(tmp_path)[0]["learning_rate"]) == pytest.approx(wanted, rel=1e-6)


def test_a_run_of_ten_million_steps_can_be_gone_on_with(recipe, tmp_path):
    for _again in range(2):
        with Watch(tmp_path, 12_345_677) as watch:
            watch.see([{"l1": 1.0}])
            watch.entry(recipe, clock(recipe, 12_345_678), None)
    assert [row["step"] for row in rows(tmp_path)] == ["12345678"]


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    with Watch(tmp_path, 0, first=False) as watch:
        watch.see([{"l1": 1.0}])
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_scalars_and_pictures_where_it_is_installed(recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Watch(tmp_path, 0) as watch:
        watch.see([{"l1": 0.25}])
        watch.entry(recipe, clock(recipe, 5), Findings(30.0, 0.9, torch.rand(3, 4, 6)))
    events = EventAccumulator(str(tmp_path)).Reload()
    (scalar,) = events.Scalars("l1")
    assert (scalar.step, scalar.value) == (5, 0.25)
    (picture,) = events.Images("held out")
    assert (picture.height, picture.width) == (4, 6)
