"""Whatever a file of weights holds, it is read as numbers or refused; nothing in it runs."""

import os
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from srpipe.errors import ConfigError, WeightsError
from srpipe.zoo.checkpoint import read, sha256

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2, dtype=torch.float16)}


class Trap:
    """What makes a file where it is told to, once it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_trap_of_these_tests_snaps(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "caught")))
    assert (tmp_path / "caught").exists()


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "PTH"])
def test_weights_are_read_as_they_were_written(tmp_path, suffix, new):
    path = tmp_path / f"weights.{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=new)
    found = read(path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_safetensors_are_read_as_they_were_written(tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors")
    assert all(torch.equal(t, STATE[k]) for k, t in read(tmp_path / "weights.safetensors").items())


@pytest.mark.parametrize("kind", ["new", "legacy", "plain"])
def test_a_trap_is_refused_and_does_not_snap(tmp_path, kind):
    path, caught = tmp_path / "model.pth", tmp_path / "caught"
    if kind == "plain":
        path.write_bytes(pickle.dumps({"trap": Trap(caught)}, protocol=2))
    else:
        torch.save(
            {**STATE, "trap": Trap(caught)}, path, _use_new_zipfile_serialization=kind == "new"
        )
    with pytest.raises(WeightsError, match=r"mkdir, which is code .*; nothing of") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert not caught.exists()


def test_a_whole_network_is_refused_in_one_line(tmp_path):
    torch.save(nn.Conv2d(3, 3, 3), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"holds torch\.nn\.\S*Conv2d.*state_dict") as error:
        read(tmp_path / "whole.pth")
    assert "\n" not in str(error.value)


def test_a_program_of_torchscript_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is on its way out of PyTorch
        torch.jit.save(torch.jit.script(nn.Identity()), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match="holds TorchScript, which is code"):
        read(tmp_path / "script.pt")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("data", [b"", b"no weights", b"\x80\x05\x95"])
def test_what_is_no_weights_is_said_in_one_line(tmp_path, data, suffix):
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"bad\.\w+ is damaged, or") as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("new", [True, False])
def test_a_file_that_was_cut_is_damaged(tmp_path, new):
    path = tmp_path / "cut.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=new)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WeightsError, match=r"cut\.pth is damaged"):
        read(path)


def test_a_tensor_without_names_is_refused(tmp_path):
    torch.save(torch.ones(3), tmp_path / "one.pth")
    with pytest.raises(WeightsError, match="holds a Tensor, and no weights by name"):
        read(tmp_path / "one.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_that_is_not_there_is_named(tmp_path, suffix):
    with pytest.raises(WeightsError, match=rf"gone\.{suffix} cannot be read \(No such file"):
        read(tmp_path / f"gone.{suffix}")


def test_another_kind_of_file_is_answered_with_those_that_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.onnx is no file of weights; .*\.safetensors"):
        read(tmp_path / "model.onnx")


def test_the_hash_is_that_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
