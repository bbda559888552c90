"""Layers that several networks share."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srpipe.models import MODELS, layers
from srpipe.models.layers import Chain, PReLU, SubPixel, conv, in_one_step, leaky_conv
from srpipe.precision import lower

CHAINS = {
    "leaky": lambda: Chain(conv(4, 8), nn.LeakyReLU(0.2), conv(8, 4)),
    "prelu": lambda: Chain(conv(4, 8), nn.PReLU(init=0.3), conv(8, 4), nn.PReLU(init=0.1)),
    "relu, strided": lambda: Chain(nn.Conv2d(4, 8, 3, stride=2, bias=False), nn.ReLU()),
    "sub-pixel": lambda: Chain(SubPixel(4, 4, 2), nn.Identity(), nn.LeakyReLU(0.1), conv(4, 4)),
    "others": lambda: Chain(nn.PReLU(), conv(4, 4), nn.PReLU(4), conv(4, 4), nn.Sigmoid()),
}

LAYOUTS = torch.contiguous_format, torch.channels_last

one_step = pytest.mark.skipif(layers._ONE_STEP is None, reason="no kernel that does both at once")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_chain_is_its_layers_in_a_row(make, layout):
    chain, x = make().to(memory_format=layout), torch.randn(2, 4, 9, 7).to(memory_format=layout)
    wanted = x
    for layer in chain:
        wanted = layer(wanted)
    assert torch.equal(chain(x), wanted)
    low, x = chain.bfloat16(), x.bfloat16()
    with torch.no_grad():
        assert (low(x).float() - wanted).abs().max() < 0.02 * wanted.abs().max()


@one_step
def test_a_convolution_and_what_follows_are_rounded_once():
    layer, x = conv(4, 8), torch.randn(1, 4, 16, 16).bfloat16()
    low = layer.bfloat16()
    exact = F.leaky_relu(F.conv2d(x.double(), low.weight.double(), low.bias.double(), 1, 1), 0.3)
    with torch.no_grad():
        found = leaky_conv(x, low, 0.3)
    assert (found.double() - exact).abs().max() <= 2**-8 * exact.abs().max()
    apart = F.leaky_relu(low(x), 0.3)
    assert (found.double() - exact).square().sum() < (apart.double() - exact).square().sum()


@one_step
@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_the_layers_after_a_convolution_are_left_out_only_where_it_does_their_work(make):
    chain, done = make().bfloat16(), []
    for layer in chain:
        layer.register_forward_hook(lambda layer, *_: done.append(layer))
    with torch.no_grad():
        chain(torch.randn(1, 4, 8, 8).bfloat16())
    done += [layer for layer in chain if isinstance(layer, nn.Identity)]
    skipped = [layer for layer in chain if layer not in done]
    slopes = (nn.Conv2d, nn.LeakyReLU, nn.ReLU, nn.PReLU)
    assert all(isinstance(layer, slopes) for layer in skipped)
    assert sum(isinstance(layer, nn.Conv2d) for layer in skipped) * 2 == len(skipped)


def test_both_at_once_is_for_inference_in_bfloat16():
    layer, x = conv(4, 4), torch.zeros(1, 4, 8, 8)
    with torch.no_grad():
        assert not in_one_step(x, layer)
        assert not in_one_step(x.bfloat16(), layer)
        assert not in_one_step(x.to("meta", torch.bfloat16), layer.to("meta", torch.bfloat16))
    assert not in_one_step(x.bfloat16(), conv(4, 4).bfloat16())


@pytest.mark.parametrize("family", MODELS)
def test_the_lowered_network_keeps_gates_in_float32_and_hands_on_what_it_was_given(family):
    spec = MODELS[family]
    network = spec.build(scale=spec.scales[-1], **spec.presets["lite"]).eval()
    low = lower(network, torch.bfloat16)
    kept = {n for n, p in low.named_parameters() if p.dtype == torch.float32}
    assert all(p.dtype in (torch.float32, torch.bfloat16) for p in low.parameters())
    for name, part in low.named_modules():
        for child in getattr(part, "float32", ()):
            inside = f"{name}.{child}." if name else f"{child}."
            assert any(n.startswith(inside) for n in kept)
            kept -= {n for n in kept if n.startswith(inside)}
    assert not kept
    x = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        wanted, found = network(x), low(x)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 0.02


@pytest.mark.parametrize("low", [False, True])
def test_prelu_learns_as_pytorchs_does(low):
    x = torch.randn(2, 4, 9, 7).to(memory_format=torch.channels_last)
    found = []
    for layer in (nn.PReLU(), PReLU()):
        seen = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            made = layer(seen.bfloat16() if low else seen)
        made.float().square().sum().backward()
        found.append((made.detach().float(), seen.grad, layer.weight.grad))
    for wanted, got in zip(*found, strict=True):
        assert torch.allclose(wanted, got, rtol=1e-2 if low else 1e-5)
        assert float(got.abs().max()) > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("step", [2, 3])
def test_the_sub_pixel_layer_is_a_convolution_and_a_pixel_shuffle_and_learns_as_they_do(
    step, layout
):
    layer = SubPixel(4, 5, step).to(memory_format=layout)
    apart = nn.Sequential(conv(4, 5 * step**2), nn.PixelShuffle(step))
    apart[0].load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 6, 7).to(memory_format=layout)
    weight = torch.randn(2, 5, 6 * step, 7 * step)
    found = []
    for made in (apart, layer):
        given = x.clone().requires_grad_()
        out = made(given)
        (out * weight).sum().backward()
        found.append((out, given.grad, *(p.grad for p in made.parameters())))
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_sub_pixel_layer_makes_whole_lines_where_it_is_given_such():
    x = torch.randn(2, 4, 6, 7).to(memory_format=torch.channels_last)
    assert SubPixel(4, 5, 2)(x).is_contiguous(memory_format=torch.channels_last)
