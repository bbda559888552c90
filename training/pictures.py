"""The pictures of a folder: found, read, and told apart from those that validation sees."""

import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from srpipe.errors import ConfigError, MediaError
from srpipe.io import png, tiff
from srpipe.metrics import luma
from srpipe.pixels import to_unit

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}

DEEP = {"PNG": png.read, "TIFF": tiff.read}
"""What reads pictures of 16 bits, by the format as Pillow names it."""

BITS_PER_SAMPLE = 258
"""TIFF's tag."""

ALIKE = 0.12
"""The share by which likenesses of one picture may differ. At half the size, and as JPEG of quality
40, 122 pictures differed from themselves by at most 0.061; of 118 828 pairs of different pictures
three, of one program's screen, by 0.195 to 0.277, and all others by more than 0.43."""

NUMBERED, SUB_IMAGES = r"_s?\d+$", r"_s\d+$"
"""How names of crops of one photograph end; a camera's pictures are numbered by the first too."""


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder and the folders in it, in the order of their names.

    Raises
    ------
    ConfigError
        If the folder does not exist or holds none.
    MediaError
        If it or a folder in it cannot be read.
    """
    found = sorted(
        path
        for path in _files(folder)
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ConfigError(
            f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); name another folder"
        )
    return found


def _files(folder: Path) -> Iterator[Path]:
    """What lies in a folder and the folders in it, linked ones too, but none of them twice."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place) / name for name in files)


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return  # there are no pictures then
    raise MediaError(
        f"{error.filename} cannot be read ({error.strerror}); change its rights, or remove it"
    ) from error


def read_image(path: Path) -> Tensor:
    """One picture as a uint8 Tensor of shape (H, W, 3), RGB; opacity is left out.

    Raises
    ------
    MediaError
        If the file is no picture that can be read, or has samples of no known range.
    """
    try:
        with _silence(), Image.open(path) as image:
            if image.mode in ("I", "F") and image.format == "TIFF":
                raise OSError("its samples are signed, float or of 32 bits: of no known range")
            if _is_deep(image):
                return _rounded(DEEP[str(image.format)](path).frame.planes[0])
            return torch.from_numpy(np.array(image.convert("RGB")))
    except MemoryError:
        raise  # which is no fault of the picture's
    except Exception as error:  # decoders raise what they like over damaged bytes
        raise MediaError(f"{path} cannot be read as a picture ({error}); remove it") from error


def _silence() -> AbstractContextManager[Any]:
    """No warnings of pictures that are large, and of odd tags."""
    return warnings.catch_warnings(action="ignore")


def _is_deep(image: Image.Image) -> bool:
    """Whether it has 16 bits, of which Pillow would cut off eight, or clip grey to eight."""
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    deep = 16 in bits or ";16" in str(getattr(image, "tile", ""))
    coloured = deep and image.mode in ("LA", "RGB", "RGBA")
    return image.format in DEEP and (coloured or image.mode.startswith("I"))


def _rounded(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W, C) of 16 bits in 8, grey three times."""
    colours = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., :1].repeat(3, -1)
    return torch.from_numpy((colours / 257).round().astype(np.uint8))


def held_out(paths: Sequence[Path], share: float) -> list[int]:
    """The numbers of the pictures that only validation sees: all crops of a photograph, or none.

    Crops of one photograph share the name but for its ending, in whatever folder and format they
    are: `NUMBERED`, unless that makes one photograph of most of the folder, as with a camera's
    IMG_0001, where every picture is its own. Which they are, their names decide: those whose hashes
    are below the share, the least of them at least.
    """
    (_, most), *_ = Counter(_origin(path, NUMBERED) for path in paths).most_common(1)
    end = NUMBERED if 2 * most <= len(paths) else SUB_IMAGES
    hashes = [zlib.crc32(os.fsencode(_origin(path, end))) for path in paths]
    bound = max(share * 2**32, min(hashes) + 1)
    return [number for number, each in enumerate(hashes) if each < bound]


def _origin(path: Path, end: str) -> str:
    return re.sub(end, "", path.stem)


def likeness(image: Tensor) -> Tensor:
    """256 numbers that hardly change when an image (H, W, 3) is resized, compressed or made grey.

    By how many levels one of two neighbours is the brighter, in the picture's 16 x 17 px version.
    """
    grey = luma(to_unit(image, 8).permute(2, 0, 1)[None])
    small = F.adaptive_avg_pool2d(grey, (16, 17))[0, 0]
    return (small[:, 1:] - small[:, :-1]).flatten()


def turned(image: Tensor) -> list[Tensor]:
    """An image (H, W, 3) in all eight ways that it can be turned and mirrored."""
    return [each.rot90(k) for each in (image, image.flip(1)) for k in range(4)]


def copies(images: Sequence[Tensor], of: Sequence[Tensor]) -> list[bool]:
    """For each of some `likeness`, whether it is of the same picture as one of others.

    Two are alike by what they differ by as a share of what there is in both, so that what is flat
    in both says nothing.
    """
    a = torch.stack(list(images))
    alike = torch.zeros(len(a), dtype=torch.bool)
    for b in torch.stack(list(of)).split(256):  # all at once are too many for the memory
        there = a.abs().sum(1).view(-1, 1) + b.abs().sum(1)
        alike |= (torch.cdist(a, b, p=1) < ALIKE * there).any(1)
    return alike.tolist()
