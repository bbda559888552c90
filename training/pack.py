"""Images of any sizes in one buffer, in memory or in a file, and squares gathered from them."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from srpipe.pixels import to_unit


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


def kept(path: Path, fingerprint: str, images: Iterable[Tensor]) -> Pack:
    """The pack in a file, mapped into memory; written first where it is not of this fingerprint.

    Parameters
    ----------
    path : of the pixels; beside it stands what they are, in JSON
    images : uint8 (H, W, 3) each; looked at only where the file has to be written
    """
    index = path.with_suffix(".json")
    facts = _facts(index)
    if facts.get("fingerprint") != fingerprint or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"fingerprint": fingerprint, "sizes": _write(path, images)}
        part = index.with_name(f"{index.name}.{os.getpid()}.part")
        part.write_text(json.dumps(facts))
        os.replace(part, index)
    pixels = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
    return Pack.over(pixels, facts["sizes"])


def _facts(index: Path) -> dict:
    try:
        return json.loads(index.read_text())
    except (OSError, ValueError):
        return {}


def _write(path: Path, images: Iterable[Tensor]) -> list[list[int]]:
    """Write pixels one image after the other, whole or not at all; the images' sizes."""
    sizes = []
    path.with_suffix(".json").unlink(missing_ok=True)  # which would speak of other pixels
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for image in images:
                sizes.append(list(image.shape[:2]))
                file.write(image.contiguous().numpy().tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return sizes
