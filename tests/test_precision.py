"""Which type a network computes in."""

import pytest
import torch

from srpipe.precision import DTYPES, best, native

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


@pytest.mark.parametrize(("amx", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_a_processor_takes_bfloat16_with_amx_alone(monkeypatch, amx, wanted):
    """With AVX512-bf16 but no AMX it was the slower of the two."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert best(CPU) == wanted


def test_a_processor_takes_16_bits_only_where_they_serve():
    assert best(CPU, ("fp32", "fp16")) == "fp32"


@pytest.mark.parametrize(("modern", "wanted"), [(True, DTYPES), (False, ("fp32", "fp16"))])
def test_what_a_graphics_processor_has_units_for(monkeypatch, modern, wanted):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: modern)
    assert [name for name in DTYPES if native(CUDA, name)] == list(wanted)


def test_a_processor_that_is_fast_in_a_type_has_units_for_it():
    assert native(CPU, "fp32")
    assert native(CPU, best(CPU))
