import pytest
import torch

from srpipe.infer import Upscaler
from srpipe.models import MODELS
from srpipe.models.pooling import held, pools, whole
from srpipe.precision import lower

every_model = pytest.mark.parametrize("name", MODELS)

DEPTHS = ("merfs", "groups")
"""Options that are 1 where a network would see farther than a test can afford."""


def lite(name, scale=None):
    spec = MODELS[name]
    torch.manual_seed(0)
    return spec.build(scale=scale or spec.scales[0], **spec.presets["lite"])


def awake(network):
    """Weights so large that the far pixels count: an untrained network hardly uses them."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    return network


@every_model
@pytest.mark.parametrize("size", [(17, 23), (1, 1), (2, 7), (8, 4)])
def test_any_size_is_enlarged_by_the_scale(name, size):
    spec = MODELS[name]
    for scale in spec.scales:
        with torch.inference_mode():
            y = lite(name, scale)(torch.rand(2, 3, *size))
        assert y.shape == (2, 3, size[0] * scale, size[1] * scale)
        assert y.dtype == torch.float32


@every_model
def test_every_parameter_gets_a_gradient(name):
    network = lite(name)
    x = torch.rand(1, 3, 16, 16)
    image, maps = network(x, return_gradient=True) if MODELS[name].gradient else (network(x), ())
    sum(y.square().mean() for y in (image, *maps)).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_model
def test_no_pixel_looks_farther_than_the_halo(name):
    """Apart from what layers know of the whole image, which is held at its value here."""
    spec = MODELS[name]
    scale = spec.scales[0]
    options = dict(spec.presets["lite"])
    options |= {key: 1 for key in DEPTHS if key in spec.build.__init__.__kwdefaults__}
    network = awake(spec.build(scale=scale, **options)).double()
    halo, step = spec.halo(scale=scale, **options), spec.alignment
    middle = (halo + 4) // step * step + step
    seen = 0
    for offset in range(step):
        x = torch.rand(1, 3, 2 * middle, 12, dtype=torch.double, requires_grad=True)
        at = middle + offset
        for row in (at * scale, at * scale + scale - 1):
            with held(network, whole(network, x)):
                seen_from = network(x)[..., row, :].sum()
            (grad,) = torch.autograd.grad(seen_from, x)
            seen = max(seen, int((grad.abs().sum((0, 1, 3)).nonzero() - at).abs().max()))
    assert halo - 1 <= seen <= halo


@every_model
def test_a_network_has_pools_where_and_only_where_it_says_that_it_looks_at_the_whole(name):
    assert bool(pools(lite(name))) == (MODELS[name].statistics == "global")


@every_model
def test_a_tile_with_the_statistics_of_the_whole_is_a_part_of_the_whole(name):
    network = awake(lite(name)).double()
    spec = MODELS[name]
    scale = spec.scales[0]
    torch.manual_seed(1)
    x = torch.rand(1, 3, 24, 96, dtype=torch.double)
    with torch.inference_mode():
        wanted, statistics = network(x), whole(network, x)
        with held(network, statistics):
            found = network(x[..., 24:])
    near = min(71, spec.halo(scale=scale, **spec.presets["lite"])) * scale
    inner = found[..., near:] - wanted[..., 24 * scale + near :]
    assert inner.abs().max() < 1e-9


SHORT = ("blocks", "units")
"""Options that say how many alike parts follow one another; two of them are enough here."""


def seams(image, lines):
    """Mean step across these rows, as a share of the mean step between all rows."""
    steps = image.diff(dim=2).abs().mean((0, 1, 3))
    return steps[[line - 1 for line in lines]].mean() / steps.mean()


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].statistics == "global"])
def test_tiles_that_share_statistics_are_far_closer_to_the_whole_than_those_that_do_not(name):
    spec, scale = MODELS[name], MODELS[name].scales[0]
    options = spec.presets["lite"] | {key: 2 for key in SHORT if key in spec.presets["lite"]}
    torch.manual_seed(0)
    network, halo = spec.build(scale=scale, **options), spec.halo(scale=scale, **options)
    x = torch.rand(1, 3, 14, 16).repeat_interleave(12, 2).repeat_interleave(12, 3)
    x = x * torch.linspace(0.1, 1, x.shape[3]) * torch.linspace(1, 0.3, x.shape[2])[:, None]
    made, other, whole_at_once = (
        Upscaler(
            network, scale=scale, halo=halo, exact=True, tile=tile, device="cpu", precision="fp32"
        )
        for tile in (2 * halo + 48, 2 * halo + 48, 1000)
    )
    wanted, found = whole_at_once(x), made(x)
    lines = sorted({tile.y.keep_from * scale for tile in made.plan(*x.shape[2:])[1]} - {0})
    other.__dict__["looks_at_the_whole"] = False
    alone = other(x)
    error, plain = (found - wanted).abs().max(), (alone - wanted).abs().max()
    assert plain > 20 * error
    assert seams(found, lines) <= 1.02 * seams(wanted, lines)


@every_model
def test_the_body_may_be_in_half_precision_and_the_result_is_not(name):
    network = lite(name)
    x = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        full, half = network(x), lower(network, torch.bfloat16)(x)
    assert half.dtype == torch.float32
    assert (half - full).abs().max() < 1 / 255


@every_model
def test_the_papers_body_may_be_in_half_precision_too(name):
    spec = MODELS[name]
    for scale in spec.scales:
        network = lower(spec.build(scale=scale, **spec.presets["paper"]), torch.bfloat16)
        with torch.inference_mode():
            made = network(torch.rand(1, 3, 8, 8))
        assert made.dtype == torch.float32
        assert made.shape[2:] == (8 * scale, 8 * scale)


@every_model
def test_the_paper_preset_has_a_halo_and_at_least_the_lite_ones(name):
    spec = MODELS[name]
    for scale in spec.scales:
        paper, small = (spec.halo(scale=scale, **spec.presets[p]) for p in ("paper", "lite"))
        assert paper >= small
