import pytest
import torch
from counts import macs_per_pixel, parameters

from srpipe.models.eagcl import EAGCL, RRDB, SPEC, EnhancedAttention


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 23_188_038),
        ({"tail_blocks": 3}, 25_428_822),
        ({"grad_block": "conv"}, 17_212_998),
    ],
)
def test_the_published_networks_have_their_parameters(options, wanted):
    with torch.device("meta"):
        assert parameters(EAGCL(**options)) == wanted


def test_the_parts_have_theirs():
    with torch.device("meta"):
        assert parameters(EnhancedAttention(64)) == 9_168
        assert parameters(RRDB(64, 32)) == 719_424
        assert parameters(RRDB(128, 32)) == 1_493_760
        assert parameters(RRDB(64, 32, "softmax")) == 746_928


def test_the_published_network_costs_what_was_counted_per_input_pixel():
    """But for what each of the 60 attentions saves: three quarters of its last convolution, which
    is done before the enlargement, and two of its depth-wise kernels, which go into the third."""
    saved = 60 * (3 / 4 * 16 * 64 + 1 / 4 * 16 * (1 + 9)) / 1e6
    found = macs_per_pixel(EAGCL, return_gradient=True)
    assert found == pytest.approx(50.424 - saved, abs=0.001)


def test_attention_with_equal_logits_is_the_identity():
    attention = EnhancedAttention(16)
    torch.nn.init.zeros_(attention.expand.weight)
    torch.nn.init.constant_(attention.expand.bias, 3.0)
    x = torch.rand(1, 16, 9, 7)
    assert torch.allclose(attention(x), x, atol=1e-6)


def test_attention_weighs_a_pixel_alike_wherever_the_image_ends():
    """Stretching the map to an odd size moved every weight; doubling and cropping does not."""
    attention = EnhancedAttention(16)
    x = torch.rand(1, 16, 61, 61)
    whole, part = attention(x), attention(x[..., :41, :41])
    assert torch.allclose(whole[..., :28, :28], part[..., :28, :28], atol=1e-6)


def test_the_predicted_gradient_map_is_as_large_as_the_image():
    network = EAGCL(**SPEC.presets["lite"])
    image, edges = network(torch.rand(1, 3, 9, 6), return_gradient=True)
    assert image.shape == edges.shape == (1, 3, 36, 24)


def test_the_lite_network_adds_to_the_bicubic_image():
    from srpipe.resample import enlarge

    network, x = EAGCL(**SPEC.presets["lite"]), torch.rand(1, 3, 8, 8)
    torch.nn.init.zeros_(network.tail.weight)
    assert torch.equal(network(x), enlarge(x, 4))


def test_sigmoid_attention_is_an_option():
    attention = EnhancedAttention(16, "sigmoid")
    torch.nn.init.zeros_(attention.expand.weight)
    torch.nn.init.zeros_(attention.expand.bias)
    x = torch.rand(1, 16, 4, 4)
    assert torch.allclose(attention(x), x / 2)
