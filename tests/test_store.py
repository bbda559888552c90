import json
import sys

import pytest
import torch

from srpipe import zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.models import MODELS
from srpipe.zoo.store import is_card

OPTIONS = {**MODELS["eagcl"].presets["lite"], "merfs": 1, "width": 16, "growth": 8}


def write_card(folder, family, options, scale, stage, files):
    zoo.Card(
        family=family,
        preset="lite",
        scale=scale,
        stage=stage,
        options=options,
        parameters=1,
        halo=8,
        files=files,
        folder=folder,
    ).write()


@pytest.fixture
def folder(tmp_path):
    """Weights of a small network in two stages, one all zeros and one all ones."""
    for stage, value in (("fidelity", 0.0), ("perception", 1.0)):
        network = MODELS["eagcl"].build(scale=4, **OPTIONS)
        state = {k: torch.full_like(v, value) for k, v in network.state_dict().items()}
        files = zoo.store(state, tmp_path, f"eagcl-lite-x4-{stage}")
        write_card(tmp_path, "eagcl", OPTIONS, 4, stage, files)
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


def test_weights_of_a_run_are_not_to_be_had_by_installing_srpipe(folder, monkeypatch):
    path = folder / "eagcl-lite-x4-fidelity.safetensors"
    for change in (lambda: path.write_bytes(b""), path.unlink):
        change()
        with pytest.raises(WeightsError, match="put those back"):
            zoo.load("eagcl", perception=0, folder=folder)
    monkeypatch.setattr(sys.modules["srpipe.zoo.store"], "SHIPPED", folder)
    with pytest.raises(WeightsError, match="; install srpipe again"):
        zoo.load("eagcl", perception=0)


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
    """With all that a file holds beside numbers, of which many small tensors have much."""
    state = {f"part{i}": torch.zeros(4_000_000) for i in range(4)}  # 8 MB each, halved
    state |= {f"{'small' * 8}{i}.weight": torch.zeros(2, 3, 4, 5) for i in range(20_000)}
    files = [tmp_path / name for name in zoo.store(state, tmp_path, "big")]
    assert len(files) == 5
    assert all(file.stat().st_size <= 16_000_000 for file in files)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)  # not for its maker alone


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


@pytest.mark.parametrize(
    "name", ["eagcl-lite-x4-fidelity.safetensors", "eagcl-lite-x4-fidelity.json"]
)
def test_weights_of_ours_are_found_by_their_path_with_the_card_beside_them(folder, name):
    entry = zoo.find(str(folder / name))
    assert (entry.name, entry.stages) == ("eagcl-lite-x4", ("fidelity",))
    assert zoo.find(entry.model) == entry
    loaded = zoo.load(str(folder / name))
    assert loaded.perception == 0
    assert not any(p.any() for p in loaded.network.parameters())
    with pytest.raises(ConfigError, match="no perception weights; use --perception 0"):
        zoo.load(str(folder / name), perception=0.5)


def test_one_of_several_files_stands_for_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["srpipe.zoo.store"], "SHARD_BYTES", 2**14)
    network = MODELS["eagcl"].build(scale=4, **OPTIONS)
    files = zoo.store(network.state_dict(), tmp_path, "eagcl-lite-x4-fidelity")
    assert len(files) > 2
    write_card(tmp_path, "eagcl", OPTIONS, 4, "fidelity", files)
    loaded = zoo.load(str(tmp_path / list(files)[1]))
    assert loaded.entry.files == files
    for name, number in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], number.half().float())


def test_a_card_that_does_not_speak_of_the_file_is_an_error(folder):
    path = folder / "eagcl-lite-x4-fidelity.safetensors"
    facts = json.loads((folder / "eagcl-lite-x4-fidelity.json").read_text())
    (folder / "mine.json").write_text(json.dumps(facts))
    path.rename(folder / "mine.safetensors")
    with pytest.raises(WeightsError, match=r"mine\.json is the card of .*, not of mine\.safe"):
        zoo.find(str(folder / "mine.safetensors"))


def test_two_stages_of_different_networks_have_nothing_between_them(folder):
    narrow = {**OPTIONS, "growth": 4}
    state = MODELS["eagcl"].build(scale=4, **narrow).state_dict()
    files = zoo.store(state, folder, "eagcl-lite-x4-perception")
    write_card(folder, "eagcl", narrow, 4, "perception", files)
    with pytest.raises(WeightsError, match=r"not of one network.* use --perception 0 or 1"):
        zoo.load("eagcl", perception=0.5, folder=folder)


def test_an_entry_serves_in_the_precisions_in_which_all_its_weights_do(folder):
    path = folder / "eagcl-lite-x4-perception.json"
    for stage, precisions in (("perception", ["fp32", "bf16"]), ("fidelity", ["fp32", "fp16"])):
        path = folder / f"eagcl-lite-x4-{stage}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "precisions": precisions}))
    assert zoo.find("eagcl", folder=folder).precisions == ("fp32",)
    serve = {0: ("fp32", "fp16"), 0.5: ("fp32",), 1: ("fp32", "bf16")}
    for perception, wanted in serve.items():
        loaded = zoo.load("eagcl", perception=perception, folder=folder)
        assert loaded.precisions == wanted


@pytest.mark.parametrize("family", MODELS)
def test_the_dial_turns_in_every_family(tmp_path, family):
    spec = MODELS[family]
    scale, options = spec.scales[0], spec.presets["lite"]
    states = []
    for seed, stage in enumerate(zoo.STAGES):
        torch.manual_seed(seed)
        states.append(spec.build(scale=scale, **options).state_dict())
        files = zoo.store(states[-1], tmp_path, f"{family}-lite-x{scale}-{stage}")
        write_card(tmp_path, family, options, scale, stage, files)
    loaded = zoo.load(family, perception=0.25, folder=tmp_path)
    for name, parameter in loaded.network.named_parameters():
        wanted = torch.lerp(states[0][name].float(), states[1][name].float(), 0.25)
        assert torch.allclose(parameter, wanted, atol=2e-3), name
    with torch.no_grad():
        assert loaded.network(torch.rand(1, 3, 9, 12)).isfinite().all()


def test_a_card_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"eagcl-lite-x4-fidelity\.json cannot be written"):
        write_card(tmp_path / "gone", "eagcl", OPTIONS, 4, "fidelity", {})


def changed(folder, which, **facts):
    """A card of `folder` with other entries."""
    path = folder / f"eagcl-lite-x4-{which}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return path


def test_a_stage_is_built_with_the_options_of_its_own_card(folder):
    changed(folder, "perception", options={**OPTIONS, "image_skip": False})
    for place, skip in ((0, True), (1, False)):
        assert zoo.load("eagcl", perception=place, folder=folder).network.image_skip is skip
    with pytest.raises(WeightsError, match="the two stages of eagcl-lite-x4 are not of one"):
        zoo.load("eagcl", perception=0.5, folder=folder)


@pytest.mark.parametrize("place", [-0.1, 1.5])
def test_no_place_beyond_the_dial_is_taken(folder, place):
    with pytest.raises(ConfigError, match="the dial goes from 0 to 1"):
        zoo.load("eagcl", perception=place, folder=folder)


def test_two_cards_of_one_stage_are_named_and_none_is_taken(folder):
    text = (folder / "eagcl-lite-x4-fidelity.json").read_text()
    (folder / "older.json").write_text(text)
    with pytest.raises(WeightsError, match=r"\.json and .*older\.json are both cards of"):
        zoo.entries(folder)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"stage": "sharp"}, "stage"),
        ({"stage": None}, "stage"),
        ({"preset": "mine"}, "preset"),
        ({"scale": "4"}, "scale"),
        ({"scale": 4.0}, "scale"),
        ({"scale": 2}, "scale"),
        ({"options": None}, ""),
        ({"files": ["a"]}, ""),
        ({"halo": "12"}, "halo"),
        ({"halo": -5}, "halo"),
        ({"family": ["eagcl"]}, ""),
        ({"parameters": "many"}, "parameters"),
        ({"precisions": "fp32"}, "precisions"),
        ({"precisions": ["int4"]}, "precisions"),
        ({"training": None}, ""),
        ({"training": {"spent": "x"}}, "training"),
        ({"metrics": {"values": {"Set5": {}}}}, "metrics"),
    ],
)
def test_a_card_with_an_entry_that_cannot_be_is_named(folder, facts, what):
    path = changed(folder, "fidelity", **facts)
    with pytest.raises(WeightsError, match=rf"{path.name} is no weights card \(.*{what}.*; remove"):
        zoo.entries(folder)


def test_an_option_that_a_network_has_not_is_named(folder):
    changed(folder, "fidelity", options={**OPTIONS, "foo": 1})
    with pytest.raises(WeightsError, match=r"x4-fidelity does not fit its own .*foo"):
        zoo.load("eagcl", perception=0, folder=folder)


def test_json_of_another_kind_beside_weights_is_no_card_of_them(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"author": "somebody"}')
    assert not is_card(path)
    path.write_text('{"family": "eagcl", "files": {}}')
    assert is_card(path)
    path.write_text("{")  # it may have been one
    assert is_card(path)


def test_weights_in_a_folder_that_cannot_be_read_are_not_said_to_be_missing(locked):
    with pytest.raises(WeightsError, match=r"locked cannot be read \(Permission denied\)"):
        zoo.find("eagcl", folder=locked)
    for file in ("x.safetensors", "x.json", "x.pth"):
        with pytest.raises(WeightsError, match=rf"{file} cannot be read \(Permission denied\)"):
            zoo.find(str(locked / file))
