import json

import pytest
import torch

from srpipe import zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.models import MODELS

OPTIONS = {**MODELS["eagcl"].presets["lite"], "merfs": 1, "width": 16, "growth": 8}


@pytest.fixture
def folder(tmp_path):
    """Weights of a small network in two stages, one all zeros and one all ones."""
    for stage, value in (("fidelity", 0.0), ("perception", 1.0)):
        network = MODELS["eagcl"].build(scale=4, **OPTIONS)
        state = {k: torch.full_like(v, value) for k, v in network.state_dict().items()}
        zoo.Card(
            family="eagcl",
            preset="lite",
            scale=4,
            stage=stage,
            options=OPTIONS,
            parameters=sum(v.numel() for v in state.values()),
            halo=8,
            files=zoo.store(state, tmp_path, f"eagcl-lite-x4-{stage}"),
            folder=tmp_path,
        ).write()
    return tmp_path


def test_a_card_is_read_as_it_was_written(folder):
    for card in zoo.cards(folder):
        assert zoo.Card.read(folder / f"{card.stem}.json") == card
        assert "/" not in json.dumps(card.to_dict())  # no path of the machine that made it


@pytest.mark.parametrize("name", ["eagcl", "eagcl-lite", "eagcl-lite-x4"])
def test_a_network_is_found_by_each_of_its_names(folder, name):
    entry = zoo.find(name, folder=folder)
    assert entry.name == "eagcl-lite-x4"
    assert entry.stages == ("fidelity", "perception")


@pytest.mark.parametrize(("dial", "wanted"), [(0, 0), (0.25, 0.25), (1, 1), (None, 1)])
def test_the_dial_interpolates_every_number(folder, dial, wanted):
    loaded = zoo.load("eagcl", perception=dial, folder=folder)
    assert all(torch.allclose(p, torch.tensor(float(wanted))) for p in loaded.network.parameters())
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert loaded.perception == wanted


def test_the_halo_is_effective_and_the_reach_is_known(folder):
    loaded = zoo.load("eagcl", folder=folder)
    assert (loaded.halo, loaded.exact, loaded.alignment) == (8, False, 4)


def test_a_missing_stage_is_named(folder):
    (folder / "eagcl-lite-x4-perception.json").unlink()
    assert zoo.load("eagcl", folder=folder).perception == 0
    with pytest.raises(ConfigError, match="no perception weights; use --perception 0"):
        zoo.load("eagcl", perception=0.5, folder=folder)


def test_an_unknown_name_is_answered_with_the_nearest(folder):
    with pytest.raises(ConfigError, match="did you mean 'eagcl"):
        zoo.find("eagle", folder=folder)


def test_a_scale_that_was_not_trained_is_answered_with_those_that_were(folder):
    with pytest.raises(ConfigError, match="eagcl enlarges 4 times, not 3; use --scale 4"):
        zoo.find("eagcl", scale=3, folder=folder)


def test_a_changed_byte_is_noticed(folder):
    path = folder / "eagcl-lite-x4-fidelity.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged or were replaced"):
        zoo.load("eagcl", perception=0, folder=folder)


def test_weights_of_another_network_are_refused_in_one_line(folder):
    card = zoo.cards(folder)[0]
    files = zoo.store({"head.weight": torch.zeros(1)}, folder, card.stem)
    path = folder / f"{card.stem}.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "files": files}))
    with pytest.raises(WeightsError, match="does not fit its own network") as caught:
        zoo.load("eagcl", perception=0, folder=folder)
    assert "\n" not in str(caught.value)


def test_a_card_with_an_unknown_entry_is_refused(folder):
    path = folder / "eagcl-lite-x4-fidelity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "color": "red"}))
    with pytest.raises(WeightsError, match="no weights card"):
        zoo.cards(folder)


def test_large_weights_are_spread_over_files_of_sixteen_megabytes(tmp_path):
    state = {f"part{i}": torch.zeros(3 * 2**20) for i in range(4)}  # 6 MiB each, halved
    files = zoo.store(state, tmp_path, "big")
    assert len(files) == 2
    assert all((tmp_path / file).stat().st_size < 16.1 * 2**20 for file in files)


@pytest.mark.weights
def test_every_shipped_card_has_its_weights_and_builds_its_network():
    cards = zoo.cards()
    assert cards, "no weights are shipped"
    for card in cards:
        loaded = zoo.load(card.name, perception=zoo.STAGES.index(card.stage))
        assert sum(p.numel() for p in loaded.network.parameters()) == card.parameters
        assert dict(card.options) == dict(MODELS[card.family].presets[card.preset])
        if card.preset == "lite":
            assert sum((card.folder / file).stat().st_size for file in card.files) < 2e6
