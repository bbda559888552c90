import pytest
import torch
import torch.nn.functional as F
from counts import macs_per_pixel, parameters
from test_every_model import awake

from srpipe.infer import Upscaler
from srpipe.models.gpsr import GPSR, LRSAM, SPEC, Group, Guide, halo
from srpipe.resample import enlarge

LITERAL = {
    "width": 72,
    "width_rule": "unet",
    "reduction": 4,
    "excitations": 2,
    "merge": "concat",
    "mask": "channels",
}
"""The paper's Eq. 6 as it stands, without a convolution at the merge."""

SMALL = {"width": 8, "width_rule": "unet", "groups": 1, "blocks": 1}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"scale": 4}, 8_216_313),
        ({"scale": 8}, 14_352_744),
        ({"scale": 8, "width_rule": "drn"}, 14_234_035),
        ({"scale": 4, "width_rule": "unet"}, 8_365_394),
        ({"scale": 4, **LITERAL}, 8_378_721),
    ],
)
def test_the_published_networks_have_their_parameters(options, wanted):
    with torch.device("meta"):
        assert parameters(GPSR(**options)) == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"scale": 4}, 19.206),
        ({"scale": 8}, 26.352),
        ({"scale": 4, **LITERAL}, 19.219),  # 1107 G where 1280 x 720 px come out
    ],
)
def test_the_published_networks_cost_what_was_counted_per_input_pixel(options, wanted):
    """At an output of 1280 x 720 px, whose width the attention fills up to a multiple of 3."""
    size = 720 // options["scale"], 1280 // options["scale"]
    found = macs_per_pixel(lambda: GPSR(**options), size, return_gradient=True)
    assert found == pytest.approx(wanted, abs=0.001)


def test_the_parts_have_their_parameters():
    attention = 8, 2, "spatial"
    with torch.device("meta"):
        assert parameters(LRSAM(96, *attention)) == 6_069
        assert parameters(Group(96, 4, attention)) == 725_556
        assert parameters(Guide(96, 96, 4, attention, 1)) == 864_228
        assert parameters(Guide(96, 48, 4, attention, 1)) == 254_892


@pytest.mark.parametrize("scale", SPEC.scales)
def test_the_small_network_is_small_at_every_scale(scale):
    with torch.device("meta"):
        assert parameters(GPSR(scale, **SPEC.presets["lite"])) < 0.6e6


def test_attention_without_logits_halves_its_input():
    attention = LRSAM(8, 4, 1, "spatial")
    torch.nn.init.zeros_(attention.expand.weight)
    torch.nn.init.zeros_(attention.expand.bias)
    x = torch.rand(1, 8, 5, 7)
    assert torch.equal(attention(x), x / 2)


@pytest.mark.parametrize(("mask", "alike"), [("spatial", True), ("channels", False)])
def test_attention_weighs_all_channels_alike_or_each_of_its_own(mask, alike):
    attention = awake(LRSAM(8, 2, 1, mask))
    weights = attention(torch.ones(1, 8, 6, 6))
    assert (weights.std(1).max() < 1e-6) == alike


def test_attention_finds_the_brightest_of_seven_squares_of_three_pixels():
    """Its layers pass on what lies in the middle: the mask is the sigmoid of the maximum."""
    attention = LRSAM(1, 1, 1, "spatial")
    with torch.no_grad():
        for layer in attention.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                layer.weight[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
                layer.bias.zero_()
    x = torch.zeros(1, 1, 32, 31)  # filled up to 33 x 33
    x[..., 16, 16] = 2.0  # the middle of the sixth square
    x += 1
    mask = attention(x) / x
    wanted = torch.full_like(mask, 1.0).sigmoid()
    wanted[..., 6:27, 6:27] = torch.tensor(3.0).sigmoid()
    assert torch.allclose(mask, wanted)


@pytest.mark.parametrize(("scale", "sides"), [(4, (2, 4)), (8, (2, 4, 8))])
def test_the_predicted_gradient_maps_grow_from_coarse_to_fine(scale, sides):
    network = GPSR(scale, **SMALL)
    x = torch.rand(2, 3, 5, 7)
    image, maps = network(x, return_gradient=True)
    assert [m.shape for m in maps] == [(2, 3, 5 * side, 7 * side) for side in sides]
    assert torch.equal(image, network(x))


def test_the_lite_network_adds_to_the_bicubic_image():
    network, x = GPSR(4, **SPEC.presets["lite"]), torch.rand(1, 3, 8, 8)
    assert (network(x) - enlarge(x, 4)).abs().max() < 0.1
    for parameter in network.tail.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(network(x), enlarge(x, 4))


def test_what_was_trained_at_4_fits_the_same_levels_at_8():
    four, eight = (GPSR(scale, **SPEC.presets["lite"]).state_dict() for scale in SPEC.scales)
    fitting = [key for key, weight in four.items() if eight[key].shape == weight.shape]
    others = {key.partition(".")[0] for key in four if key not in fitting}
    assert others == {"head", "tail"}


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 4, **SMALL},
        {"scale": 8, **SMALL},
        {"scale": 4, **SMALL, "width_rule": "drn", "blocks": 2},
        {"scale": 4, **SMALL, "groups": 2, "halving": 1},
        {"scale": 4, **SMALL, "merge": "concat", "mask": "channels", "excitations": 2},
    ],
)
def test_the_farthest_input_row_that_counts_is_the_halo_away(options, monkeypatch):
    """With means of what each layer sees, so that no maximum and no ReLU hides a part of it."""
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    network = GPSR(**options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else 0)
    reach, scale, seen = halo(**options), options["scale"], 0
    middle = reach // 3 * 3 + 6
    for at in range(middle, middle + 3):
        x = torch.rand(1, 3, 2 * middle, 3, dtype=torch.double, requires_grad=True)
        for row in (at * scale, at * scale + scale - 1):
            (grad,) = torch.autograd.grad(network(x)[..., row, :].sum(), x)
            seen = max(seen, int((grad.abs().sum((0, 1, 3)).nonzero() - at).abs().max()))
    assert seen == reach


@pytest.mark.parametrize("scale", SPEC.scales)
def test_tiles_that_start_on_the_grid_of_three_give_what_the_whole_gives(scale):
    torch.manual_seed(0)
    network = awake(GPSR(scale, **SMALL))
    reach = halo(scale=scale, **SMALL)
    facts = {"scale": scale, "halo": reach, "exact": True, "device": "cpu", "precision": "fp32"}
    images = torch.rand(1, 3, 8, 2 * reach + 70)
    whole = Upscaler(network, **facts, alignment=3)(images)
    tiled = Upscaler(network, **facts, alignment=3, tile=2 * reach + 36)
    _plan, tiles = tiled.plan(*images.shape[2:])
    assert len(tiles) == 3
    assert (tiled(images) - whole).abs().max() < 1e-5 * whole.abs().max()
