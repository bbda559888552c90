"""Images of any sizes in one buffer, in memory or in a file, and squares gathered from them."""

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
import torch
from torch import Tensor

from srpipe.pixels import to_unit
from training.clock import Every

NOTED_EVERY_S = 10
"""How much of the work on a file is lost at most where it is stopped."""


@dataclass(frozen=True)
class Pack:
    """Images of any sizes in one flat buffer.

    Parameters
    ----------
    pixels : uint8, the images one after the other, each (H, W, 3) in row-major order
    starts, heights, widths : int64 of shape (count,), where each image starts and how large it is
    """

    pixels: Tensor
    starts: Tensor
    heights: Tensor
    widths: Tensor

    @classmethod
    def of(cls, images: Sequence[Tensor]) -> "Pack":
        """Lay out images (H, W, 3), uint8, in one buffer."""
        pixels = torch.cat([image.reshape(-1) for image in images])
        return cls.over(pixels, [image.shape[:2] for image in images])

    @classmethod
    def over(cls, pixels: Tensor, sizes: Sequence[Sequence[int]]) -> "Pack":
        """The images of these heights and widths that lie in a buffer."""
        heights, widths = torch.tensor(sizes, dtype=torch.long).unbind(1)
        ends = (heights * widths * 3).cumsum(0)
        return cls(pixels, ends - heights * widths * 3, heights, widths)

    def __len__(self) -> int:
        return len(self.starts)

    def image(self, index: int) -> Tensor:
        """One image, uint8 (H, W, 3): a view of the buffer."""
        start, height, width = (
            int(each[index]) for each in (self.starts, self.heights, self.widths)
        )
        return self.pixels[start : start + height * width * 3].view(height, width, 3)

    def only(self, chosen: Sequence[int]) -> "Pack":
        """Some of the images, in the same buffer."""
        index = torch.tensor(chosen, dtype=torch.long)
        return Pack(self.pixels, self.starts[index], self.heights[index], self.widths[index])

    def to(self, device: torch.device) -> "Pack":
        """The same images in another device's memory."""
        parts = (self.pixels, self.starts, self.heights, self.widths)
        return Pack(*(part.to(device) for part in parts))

    def crops(
        self, chosen: Tensor, tops: Tensor, lefts: Tensor, size: int, turns: Tensor
    ) -> Tensor:
        """One square from each chosen image, turned, as float32 (N, 3, size, size) in [0, 1].

        ``turns`` in 0..7: bit 0 swaps the axes, bit 1 flips rows, bit 2 flips columns. The turn is
        part of the index, so a batch is one gather.
        """
        line = torch.arange(size, device=self.pixels.device)
        swap, up, over = ((turns >> bit & 1).bool().view(-1, 1) for bit in range(3))
        back = line.flip(0)
        down = self.widths[chosen].view(-1, 1) * (tops.view(-1, 1) + torch.where(up, back, line))
        across = lefts.view(-1, 1) + torch.where(over, back, line)  # pixels, as `down`: (N, size)
        rows, columns = torch.where(swap, across, down), torch.where(swap, down, across)
        pixel = (self.starts[chosen].view(-1, 1) + 3 * rows).unsqueeze(2) + 3 * columns.unsqueeze(1)
        batch = self.pixels.unfold(0, 3, 1)[pixel]  # (N, size, size, 3)
        return to_unit(batch, 8).permute(0, 3, 1, 2)


def kept(path: Path, fingerprint: str, images: Callable[[int], Iterable[Tensor]]) -> Pack:
    """The pack in a file, mapped into memory; written first where it is not of this fingerprint.

    Where writing it was stopped before, on this computer, it is gone on with.

    Parameters
    ----------
    path : of the pixels; beside it stands what they are, in JSON
    images : those from one number on, uint8 (H, W, 3) each; asked for only where the file has to be
        written
    """
    index = path.with_suffix(".json")
    if _facts(index).get("fingerprint") != fingerprint or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        index.unlink(missing_ok=True)  # which would speak of other pixels
        part, facts = _adopted(path, fingerprint)
        _complete(part, facts, images)
        os.replace(part, path)
        os.replace(_index(part), index)
    pixels = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
    return Pack.over(pixels, _facts(index)["sizes"])


def _index(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _facts(index: Path) -> dict:
    try:
        return json.loads(index.read_text())
    except (OSError, ValueError):
        return {}


def _adopted(path: Path, fingerprint: str) -> tuple[Path, dict]:
    """Where this process writes a file, and what is there: what one that is no more has left.

    What such processes have left of other images is removed.
    """
    own = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.part")
    begun = re.compile(re.escape(f"{path.name}.{platform.node()}-") + r"(\d+)\.part")
    facts = {"fingerprint": fingerprint, "sizes": []}
    for part in sorted(path.parent.iterdir()):
        whose = begun.fullmatch(part.name)
        if whose is None or (part != own and psutil.pid_exists(int(whose[1]))):
            continue
        left = _facts(_index(part))
        serves = left.get("fingerprint") == fingerprint and _bytes(left) <= part.stat().st_size
        if serves and len(left["sizes"]) > len(facts["sizes"]):
            os.replace(part, own)
            os.replace(_index(part), _index(own))
            facts = left
        elif part != own:
            part.unlink()
            _index(part).unlink(missing_ok=True)
    return own, facts


def _bytes(facts: dict) -> int:
    return sum(3 * height * width for height, width in facts["sizes"])


def _complete(part: Path, facts: dict, images: Callable[[int], Iterable[Tensor]]) -> None:
    """Write the pixels that are missing, and now and then down what is there."""
    sizes, due = facts["sizes"], Every(NOTED_EVERY_S)
    with part.open("r+b" if sizes else "wb") as file:
        file.truncate(_bytes(facts))
        file.seek(0, os.SEEK_END)
        try:
            for image in images(len(sizes)):
                file.write(image.contiguous().numpy().tobytes())
                sizes.append(list(image.shape[:2]))
                if due():
                    _note(file, _index(part), facts)
        finally:
            _note(file, _index(part), facts)


def _note(file: BinaryIO, index: Path, facts: dict) -> None:
    """Write down what is in a file, once that is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    new = index.with_name(f"{index.name}.new")
    new.write_text(json.dumps(facts))
    os.replace(new, index)
