"""Which type a network computes in."""

import pytest
import torch

from srpipe.precision import DTYPES, best

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("modern", "among", "wanted"),
    [
        (True, DTYPES, "bf16"),
        (False, DTYPES, "fp16"),
        (True, ("fp32", "fp16"), "fp16"),
        (True, ("fp32",), "fp32"),
        (False, ("fp32", "bf16"), "fp32"),
    ],
)
def test_a_graphics_processor_takes_the_fastest_type_that_serves(
    monkeypatch, modern, among, wanted
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: modern)
    assert best(CUDA, among) == wanted


def test_a_processor_takes_16_bits_only_where_they_serve():
    assert best(CPU) in ("fp32", "bf16")
    assert best(CPU, ("fp32", "fp16")) == "fp32"
