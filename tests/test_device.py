"""Memory that a network needs and a device has."""

import os
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from srpipe.device import (
    KEEP_FREED,
    _glibc,
    _left_to_container,
    cost,
    found,
    free_bytes,
    give_back_cache,
    is_out_of_memory,
    memory_told,
    passed_over,
    runs_on,
    where_room_is,
)
from srpipe.errors import DeviceError


def test_the_cost_is_what_pencil_and_paper_say():
    def conv(before, after):
        return nn.Conv2d(before, after, 3, padding=1)

    # alive at the peak: the picture (3) and both sides of the middle layer (16 and 16)
    network = nn.Sequential(conv(3, 16), conv(16, 16), conv(16, 12), nn.PixelShuffle(2))
    assert cost(network).bytes_per_pixel == (3 + 16 + 16) * 4
    assert cost(network).numbers_per_pixel == 16
    # the picture (3) and the last layer before and after it is folded (48 and 48)
    network = nn.Sequential(conv(3, 48), nn.PixelShuffle(4))
    assert cost(network).bytes_per_pixel == (3 + 48 + 48) * 4


@pytest.mark.parametrize(
    ("limit", "used", "cache", "left"), [(1000, 300, 100, [800]), (1000, 1200, 0, [0])]
)
def test_a_container_limit_is_found_in_both_versions(tmp_path, limit, used, cache, left):
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    new, old = tmp_path / "sys/fs/cgroup/job", tmp_path / "sys/fs/cgroup/memory/job"
    names = {"memory.max": limit, "memory.current": used}
    old_names = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used}
    for folder, files in ((new, names), (old, old_names)):
        folder.mkdir(parents=True)
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
    (proc / "cgroup").write_text("0::/job\n")
    assert _left_to_container(tmp_path) == left
    (proc / "cgroup").write_text("4:memory:/job\n3:cpuset:/job\n")
    assert _left_to_container(tmp_path) == left
    (new / "memory.max").write_text("max\n")
    (proc / "cgroup").write_text("0::/job\n")
    assert _left_to_container(tmp_path) == []


def test_a_system_without_control_groups_has_no_such_limit(tmp_path):
    assert _left_to_container(tmp_path) == []


def test_the_processor_has_memory_left():
    assert free_bytes(torch.device("cpu")) > 2**20


def test_what_a_graphics_processor_keeps_of_freed_memory_is_free(monkeypatch):
    """On MPS a frame's memory was gone for the next one, which was cut into ever smaller tiles."""
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 900)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 100)
    assert free_bytes(torch.device("mps")) == 900
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 900)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 100)
    assert free_bytes(torch.device("cuda")) == 900


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "MPS backend out of memory (MPS allocated: 1 GB, other allocations: 1 GB)",
    ],
)
def test_libraries_say_in_their_own_words_that_memory_ran_out(words):
    """cuDNN 9 says it in others than cuDNN 8 did."""
    assert is_out_of_memory(RuntimeError(words))


def test_an_error_that_is_not_about_memory_is_not_taken_for_one():
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(ValueError("out of memory"))


REUSED = """
import psutil, resource, torch
from types import SimpleNamespace
from srpipe import device

def cleared(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes * 2**18)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()

def kept():
    return device.free_bytes(torch.device("cpu")) - 2**30

psutil.virtual_memory = lambda: SimpleNamespace(available=2**30)
device._left_to_container = lambda root: []
{first}
print(cleared({size}), kept(), cleared(128))
device.give_back_freed_memory()
print(kept(), cleared(128))
"""
"""Bytes that had to be cleared for a tensor, are kept of it, and had to be for a smaller one.

Then the last two again, when what is kept has been given back.
"""


def reused(size, call="", environment=None):
    """What `REUSED` prints, in MiB, for a first tensor of so many."""
    code = REUSED.replace("{first}", call).replace("{size}", str(size))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(found) / 2**20 for found in run.stdout.split()]


glibc = pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc 2.33 or newer")


@glibc
@pytest.mark.parametrize(
    ("call", "environment"),
    [
        ("", {name: str(value) for name, value in KEEP_FREED.items()}),
        ("device.keep_freed_memory()", {}),
        ("from srpipe.cli import main; main(['upscale', 'no-such-file'])", {}),
    ],
    ids=["environment", "call", "command"],
)
def test_memory_that_tensors_leave_is_kept_and_counts_as_free(call, environment):
    first, kept, second, kept_then, third = reused(512, call, environment)
    assert first >= 512 - 1
    assert kept >= 512 - 16
    assert second < 1
    assert kept_then < 256  # given back, and what is not of malloc
    assert third >= 128 - 1


@glibc
def test_little_memory_is_not_given_back():
    first, kept, second, kept_then, _ = reused(192, "device.keep_freed_memory()")
    assert first >= 192 - 1
    assert min(kept, kept_then) >= 192 - 16
    assert second < 1


@glibc
def test_nothing_is_kept_unless_that_is_asked_for():
    first, kept, second, kept_then, third = reused(512)
    assert max(kept, kept_then) < 64
    assert min(first, second, third) >= 128 - 1


@pytest.fixture
def cards(monkeypatch):
    """Let there be cards of these capabilities, and PyTorch have code for some."""

    def make(capabilities, compiled=("sm_75", "sm_80", "compute_80")):
        here = {f"cuda:{n}": each for n, each in enumerate(capabilities)}
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(here))
        monkeypatch.setattr(torch.cuda, "get_device_capability", here.__getitem__)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(compiled))

    return make


@pytest.mark.parametrize(
    ("capability", "compiled", "runs"),
    [
        ((8, 0), ["sm_80"], True),
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((7, 5), ["sm_80", "compute_80"], False),
        ((3, 5), ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"], False),
        ((10, 3), ["sm_75", "sm_100"], True),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["compute_90a"], False),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((9, 4), ["gfx90a", "gfx942"], True),
        ((9, 0), [], True),
    ],
)
def test_a_card_runs_code_of_its_generation_and_older_ptx(capability, compiled, runs):
    assert runs_on(capability, compiled) == runs


def test_a_card_that_pytorch_has_no_code_for_is_passed_over_and_told(cards):
    """It was taken, and its first kernel ended in a traceback."""
    cards([(3, 5)])
    assert found("auto") == torch.device("cpu")
    (notice,) = passed_over()
    assert notice.startswith("cuda:0 is of the architecture sm_35, and the installed PyTorch has")
    assert notice.endswith("code for sm_75, sm_80, compute_80 only; it is not used")
    for device in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=r"architecture sm_35, .* or take the device cpu$"):
            found(device)
    assert found("cpu") == torch.device("cpu")


def test_cards_that_can_be_used_are_taken_in_turn(cards):
    """All workers took the first one, whatever it was."""
    cards([(8, 6), (3, 5), (9, 0)])
    for device in ("auto", "cuda"):
        taken = [str(found(device, turn)) for turn in range(4)]
        assert taken == ["cuda:0", "cuda:2", "cuda:0", "cuda:2"]
    assert str(found("cuda:2", 5)) == "cuda:2"
    with pytest.raises(DeviceError, match="no device cuda:3 here"):
        found("cuda:3")


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_what_pytorch_keeps_of_freed_memory_is_given_back(monkeypatch, kind):
    """On MPS it was kept, and smaller tiles had no more room than large ones."""
    done = []
    for each in ("cuda", "mps"):
        monkeypatch.setattr(
            getattr(torch, each), "empty_cache", lambda each=each: done.append(each)
        )
    give_back_cache(torch.device(kind))
    assert done == [kind]


def test_what_a_device_has_no_room_for_is_made_on_the_processor(monkeypatch):
    tried = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: tried.append("given back"))

    def make(device):
        tried.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "made"

    assert where_room_is(torch.device("cuda"), make) == "made"
    assert tried == ["cuda", "given back", "cpu"]

    def fail(device):
        raise MemoryError

    with pytest.raises(MemoryError):
        where_room_is(torch.device("cpu"), fail)


def test_memory_that_runs_out_is_told_in_one_line_and_its_error_let_go():
    words = "CUDA out of memory. Tried to allocate 2.00 GiB. If reserved but unallocated\nmore"
    there = []

    def fail():
        held = torch.zeros(1)
        there.append(weakref.ref(held))
        raise torch.OutOfMemoryError(words)

    with pytest.raises(DeviceError) as caught, memory_told("a.png"):
        fail()
    assert str(caught.value) == (
        "memory ran out at a.png (CUDA out of memory. Tried to allocate 2.00 GiB); free memory"
    )
    assert there[0]() is None
    with pytest.raises(DeviceError, match=r"at a\.png; free memory"), memory_told("a.png"):
        raise MemoryError
    with pytest.raises(RuntimeError, match="illegal"), memory_told("a.png"):
        raise RuntimeError("CUDA error: an illegal memory access")
