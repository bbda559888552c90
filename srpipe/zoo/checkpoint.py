"""Weights in files that others wrote: read as numbers, and never run."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from srpipe.errors import ConfigError, WeightsError

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def read(path: Path) -> dict[str, Any]:
    """What a file of weights holds, on the CPU.

    A pickle may name any function to be called when it is read. Only those that make tensors are.

    Raises
    ------
    ConfigError
        If the file's ending is none of `SUFFIXES`.
    WeightsError
        If it cannot be read, holds more than numbers, or is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path} is no file of weights; those end in {', '.join(SUFFIXES)}")
    try:
        held = load_file(path) if suffix == ".safetensors" else _unpickled(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged, or no safetensors file ({error})") from error
    if not isinstance(held, Mapping):
        raise WeightsError(f"{path} holds a {type(held).__name__}, and no weights by name")
    return dict(held)


def sha256(path: Path) -> str:
    """The hash of a file, as hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpickled(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters comes as an error
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # of many kinds: a foreign file gives a KeyError
            raise WeightsError(f"{path} {_problem(str(error))}") from error


def _problem(message: str) -> str:
    """What PyTorch means, in words for someone who did not make the file."""
    code = re.search(r"GLOBAL (\S+)", message)
    if code or "TorchScript" in message:
        what = code[1] if code else "TorchScript"
        return (
            f"holds {what}, which is code and no weights; nothing of it was run: ask its"
            " author for the weights alone (state_dict), best as .safetensors"
        )
    return "is damaged, or was not written by PyTorch"
