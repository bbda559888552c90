"""Memory that a network needs and a device has."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from srpipe.device import KEEP_FREED, _glibc, _left_to_container, cost, free_bytes, is_out_of_memory


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


def test_an_error_that_is_not_about_memory_is_not_taken_for_one():
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(ValueError("out of memory"))


REUSED = """
import resource, torch
from types import SimpleNamespace
from srpipe import device

def cleared(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(megabytes * 2**18)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()

def kept():
    return device.free_bytes(torch.device("cpu")) - 2**30

device.psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=2**30))
device._left_to_container = lambda root: []
{first}
print(cleared(256), kept(), cleared(128))
"""
"""Bytes that had to be cleared for a tensor, are kept of it, and had to be for a smaller one."""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc 2.33 or newer")
@pytest.mark.parametrize(
    ("by", "first"),
    [
        ("nothing", ""),
        ("environment", ""),
        ("call", "device.keep_freed_memory()"),
        ("nothing", "device.keep_freed_memory(); device.keep_freed_memory(False)"),
    ],
)
def test_memory_that_tensors_leave_is_kept_and_counts_as_free(by, first):
    added = {name: str(value) for name, value in KEEP_FREED.items()}
    environment = os.environ | (added if by == "environment" else {})
    command = [sys.executable, "-c", REUSED.replace("{first}", first)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    one, kept, two = (int(size) / 2**20 for size in run.stdout.split())
    assert one > 200
    assert kept >= 256 if by != "nothing" else kept < 64
    assert two < 1 if by != "nothing" else two >= 128
