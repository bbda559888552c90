"""The pictures of a folder: found, read, and told apart from those that validation sees."""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from srpipe.errors import ConfigError, MediaError

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

ALIKE = 16
"""Bits of 256 in which likenesses of one picture may differ. At half the size all of 120 pictures
differed from themselves in at most 16, as JPEG of quality 40 nine tenths in at most 13; of 458 403
pairs of different pictures none in fewer than 28."""


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder and the folders in it, in the order of their names.

    Raises
    ------
    ConfigError
        If the folder does not exist or holds none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ConfigError(
            f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); name another folder"
        )
    return found


def read_image(path: Path) -> Tensor:
    """One picture as a uint8 Tensor of shape (H, W, 3), RGB; opacity is left out.

    Raises
    ------
    MediaError
        If the file is no picture that can be read, or has float samples.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to 8
                grey = (np.array(image).clip(0, 65535) / 257).round().astype(np.uint8)
                return torch.from_numpy(np.stack([grey] * 3, -1))
            if image.mode == "F":
                raise OSError("its samples are float, whose range nobody states")
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise MediaError(f"{path} cannot be read as a picture ({error}); remove it") from error


def held_out(path: Path, share: float) -> bool:
    """Whether a picture belongs to validation: the same for all crops of one photograph.

    Crops of one photograph share the name but for a last ``_number``, in whatever folder and
    format they are.
    """
    origin = re.sub(r"_\d+$", "", path.stem)
    return zlib.crc32(origin.encode()) / 2**32 < share


def likeness(image: Tensor) -> Tensor:
    """256 bits, shape (256,), that hardly change when an image (H, W, 3) is resized or compressed.

    Which of two neighbours is the brighter, in the picture's 16 x 17 px version.
    """
    grey = image.float().mean(-1)[None, None]
    small = F.adaptive_avg_pool2d(grey, (16, 17))[0, 0]
    return (small[:, 1:] > small[:, :-1]).flatten()


def copies(images: Sequence[Tensor], of: Sequence[Tensor]) -> list[bool]:
    """For each of some `likeness`, whether it is of the same picture as one of others."""
    a, b = (torch.stack(list(bits)).float() for bits in (images, of))
    differing = a @ (1 - b).T + (1 - a) @ b.T
    return (differing <= ALIKE).any(1).tolist()
