import pytest
import torch
from torch import nn

from srpipe import zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.models import MODELS
from training.generator import SHAKE, build, enlarged, enlarged_twice, spent_before
from training.recipe import Model


def model(**changes):
    given = {"family": "rdam", "preset": "lite", "scale": 2, "stage": "fidelity", **changes}
    return Model(**given)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Presets that are built in milliseconds."""
    options = {**MODELS["rdam"].presets["lite"], "width": 8, "blocks": 1, "reduction": 2}
    monkeypatch.setitem(MODELS["rdam"].presets, "lite", {**options, "hr_width": 4})
    monkeypatch.setitem(MODELS["rdam"].presets, "wide", {**options, "width": 12})


def stored(state, folder):
    return zoo.Card(
        family="rdam",
        preset="lite",
        scale=2,
        stage="fidelity",
        options={},
        parameters=1,
        halo=0,
        training={"spent": {"steps": 1}},
        files=zoo.store(state, folder, "rdam-lite-x2-fidelity"),
        folder=folder,
    ).write()


@pytest.fixture
def card(tmp_path):
    """Weights of the small network at a scale of 2, all of them 0.5."""
    network = MODELS["rdam"].build(scale=2, **MODELS["rdam"].presets["lite"])
    return stored({k: torch.full_like(t, 0.5) for k, t in network.state_dict().items()}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "rdan"}, "no model 'rdan'; did you mean 'rdam'"),
        ({"preset": "lighter"}, "rdam has no preset 'lighter'; did you mean 'lite'"),
        ({"start": "rdam-light-x2-fidelity"}, "did you mean 'rdam-lite-x2-fidelity'"),
        ({"start": "runs/mine"}, "model.start = runs/mine is neither a card's path, which ends in"),
        ({"scale": 8}, "rdam enlarges 2 or 3 or 4 times, not 8"),
    ],
)
def test_what_does_not_exist_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(model(**changes))


def test_the_same_network_takes_all_weights(card):
    network, told = build(model(start=str(card)))
    assert all((tensor == 0.5).all() for tensor in network.state_dict().values())
    assert "(100% of the parameters) from rdam-lite-x2-fidelity" in told


def test_a_folder_s_name_is_no_sum(card):
    moved = card.parent.rename(card.parent.with_name("first - second")) / card.name
    assert "(100% of the parameters)" in build(model(start=str(moved)))[1]


def test_another_scale_takes_the_trunk_and_says_how_much(card):
    network, told = build(model(scale=3, start=str(card)))
    state = network.state_dict()
    taken = [name for name, tensor in state.items() if (tensor == 0.5).all()]
    assert any(name.startswith("trunk.") for name in taken)
    assert f"{len(taken)} of {len(state)} tensors" in told
    assert 0 < len(taken) < len(state)


def test_the_first_channels_of_a_wider_network_are_the_narrower_one_s(tmp_path):
    card = stored(build(model())[0].state_dict(), tmp_path)
    narrow = build(model(start=str(card)))[0]  # to the precision of a file
    wide, told = build(model(preset="wide", start=str(card)))
    x, more = torch.rand(2, 8, 6, 7), torch.rand(2, 4, 6, 7)
    for name in "trunk.0.body.0", "trunk.0.body.2", "trunk_end":
        first, made = (net.get_submodule(name) for net in (narrow, wide))
        assert torch.allclose(made(torch.cat((x, more), 1))[:, :8], first(x), atol=1e-6)
        assert (made.weight[8:] != 0).all()  # further channels see all
    small, large = narrow.state_dict(), wide.state_dict()
    of_all = "trunk.0.body.4.conv.weight"
    assert torch.equal(large[of_all], small[of_all])
    assert torch.equal(large["head.0.bias"][:8], small["head.0.bias"])
    assert not torch.equal(large["up.0.weight"][:, :8], small["up.0.weight"])
    other = [k for k, v in small.items() if large[k].shape != v.shape]
    grown = [k for k in other if k.startswith(("head", "trunk"))]
    assert f", {len(grown)} of them wider here, from rdam-lite-x2-fidelity" in told


def test_weights_of_another_family_are_refused(card):
    """They were taken where a name and a shape were equal by chance."""
    with pytest.raises(ConfigError, match="names weights of rdam, of which eagcl has no use"):
        build(model(family="eagcl", scale=4, start=str(card)))


def test_weights_of_which_nothing_fits_are_refused(card, monkeypatch):
    one = {"width": 6, "blocks": 1, "reduction": 3, "hr_width": 2}
    network = MODELS["rdam"].build(scale=3, **one)
    like = {k: v.shape for k, v in network.state_dict().items()}
    taken = [k for k, v in zoo.tensors(zoo.Card.read(card)).items() if like.get(k) == v.shape]
    state = {k: v for k, v in zoo.tensors(zoo.Card.read(card)).items() if k not in taken}
    zoo.Card.read(card)
    cut = zoo.Card(
        family="rdam", preset="lite", scale=4, stage="fidelity", options={}, parameters=1, halo=0,
        files=zoo.store(state, card.parent, "rdam-lite-x4-fidelity"), folder=card.parent,
    ).write()  # fmt: skip
    monkeypatch.setitem(MODELS["rdam"].presets, "narrow", one)
    with pytest.raises(WeightsError, match=r"0 of the .* have their like in rdam-lite-x4-fidelity"):
        build(model(preset="narrow", scale=3, start=str(cut)))


def test_the_same_network_does_not_start_from_a_part_of_its_weights(card, monkeypatch):
    options = {**MODELS["rdam"].presets["lite"], "blocks": 2}
    monkeypatch.setitem(MODELS["rdam"].presets, "lite", options)
    with pytest.raises(WeightsError, match="have their like"):
        build(model(start=str(card)))


def test_gradient_maps_come_as_a_sequence_however_many_there_are():
    low, image, maps = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8), torch.rand(2, 1, 3, 8, 8)

    def one(x, *, return_gradient=False):
        return (image, maps[0]) if return_gradient else image

    def several(x, *, return_gradient):
        return image, tuple(maps)

    assert enlarged(one, low, edges=False) == (image, ())
    assert torch.equal(enlarged(one, low, edges=True)[1][0], maps[0])
    assert len(enlarged(several, low, edges=True)[1]) == 2


def test_one_convolution_is_off_by_up_to_a_rounding_to_bfloat16():
    layer = nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False)
    nn.init.dirac_(layer.weight)
    low = torch.rand(2, 3, 64, 64) + 0.5
    image, maps, shaken = enlarged_twice(layer, low, torch.Generator(), edges=False)
    off = shaken / low - 1
    assert torch.equal(image, low)
    assert not maps
    assert 0.99 * SHAKE < float(off.abs().max()) < 1.001 * SHAKE
    assert float(off.mean()) == pytest.approx(0, abs=SHAKE / 50)


def test_what_was_learned_between_two_cards_is_given_to_a_third(tmp_path):
    torch.manual_seed(0)
    cards, states = [], []
    for name in "abc":
        network = build(model())[0]
        (tmp_path / name).mkdir()
        cards.append(stored(network.state_dict(), tmp_path / name))
        states.append(zoo.tensors(zoo.Card.read(cards[-1])))
    how = model(start=f"{cards[0]} + {cards[1]} - {cards[2]}")
    network, told = build(how)
    assert told.endswith("rdam-lite-x2-fidelity + rdam-lite-x2-fidelity - rdam-lite-x2-fidelity")
    for name, tensor in network.state_dict().items():
        a, b, c = (state[name] for state in states)
        assert torch.allclose(tensor, a + b - c, atol=1e-6)
    assert spent_before(how) == {"sum": [{"steps": 1}] * 3}
    with pytest.raises(ConfigError, match="not of one network"):
        build(model(start=f"{cards[0]} + rdam-lite-x3-fidelity"))


def test_every_convolution_of_rdam_is_shaken():
    """Also those whose kernels a backward pass of our own takes."""
    spec = MODELS["rdam"]
    network = spec.build(scale=2, **spec.presets["lite"])
    seen = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    network(torch.rand(1, 3, 8, 8))
    assert len(set(seen)) == sum(isinstance(each, torch.nn.Conv2d) for each in network.modules())


def test_what_is_shaken_is_the_networks_image_and_maps_otherwise():
    network = MODELS["eagcl"].build(**{**MODELS["eagcl"].presets["lite"], "merfs": 1})
    network.requires_grad_(False)
    nn.init.normal_(network.tail.weight)
    low = torch.rand(2, 3, 8, 8)
    wanted, edges = enlarged(network, low, edges=True)
    chance = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, again, other = (enlarged_twice(network, low, each, edges=True) for each in chance)
    assert torch.allclose(first[0], wanted, atol=1e-5)
    assert torch.allclose(first[1][0], edges[0], atol=1e-5)
    assert torch.equal(first[2], again[2])
    assert not torch.equal(first[2], other[2])
    assert 0 < float((first[2] - wanted).abs().max()) < 0.1 * float(wanted.abs().max())
    assert torch.equal(network(low), wanted)  # nothing is shaken afterwards
