"""Training images, all of them in memory as uint8, and random crops gathered from them."""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Generator, Tensor

from srpipe.errors import ConfigError, MediaError
from srpipe.pixels import to_unit
from training.degrade import bicubic, cropped

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


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
        sizes = torch.tensor([image.numel() for image in images])
        return cls(
            torch.cat([image.reshape(-1) for image in images]),
            torch.cat((torch.zeros(1, dtype=torch.long), sizes.cumsum(0)[:-1])),
            torch.tensor([image.shape[0] for image in images]),
            torch.tensor([image.shape[1] for image in images]),
        )

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
        rows, columns = line.view(1, -1, 1), line.view(1, 1, -1)
        swap, up, over = ((turns >> bit & 1).bool().view(-1, 1, 1) for bit in range(3))
        y, x = torch.where(swap, columns, rows), torch.where(swap, rows, columns)
        y, x = torch.where(up, size - 1 - y, y), torch.where(over, size - 1 - x, x)
        y, x = y + tops.view(-1, 1, 1), x + lefts.view(-1, 1, 1)
        pixel = self.starts[chosen].view(-1, 1, 1) + 3 * (
            y * self.widths[chosen].view(-1, 1, 1) + x
        )
        channel = torch.arange(3, device=pixel.device)
        batch = self.pixels[pixel.unsqueeze(-1) + channel]  # (N, size, size, 3)
        return to_unit(batch, 8).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Pairs:
    """High-resolution images with the low-resolution ones made from them."""

    low: Pack
    high: Pack
    scale: int

    @classmethod
    def of(cls, images: Sequence[Tensor], scale: int) -> "Pairs":
        """Reduce every image (H, W, 3) by ``scale``, after cropping it to a multiple of it."""
        high = [cropped(image, scale) for image in images]
        return cls(Pack.of([bicubic(image, scale) for image in high]), Pack.of(high), scale)

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs in another device's memory."""
        return Pairs(self.low.to(device), self.high.to(device), self.scale)

    def batches(
        self, count: int, patch: int, generator: Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches of ``count`` low (patch / scale) and high (patch) squares.

        Images are drawn by their area, so that every pixel is equally likely; the generator alone
        decides, so that its state is the position in the data.

        Raises
        ------
        ConfigError
            If an image is smaller than the patch, or the patch no multiple of the scale.
        """
        side = patch // self.scale
        small = int(torch.minimum(self.high.heights, self.high.widths).min())
        if patch % self.scale or patch > small:
            raise ConfigError(
                f"a patch of {patch} px does not fit: it must be a multiple of {self.scale} and no"
                f" larger than the smallest image's side of {small} px"
            )
        area = (self.low.heights * self.low.widths).double()
        while True:
            yield self._batch(count, side, area, generator)

    def _batch(
        self, count: int, side: int, area: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        chosen = torch.multinomial(area.cpu(), count, replacement=True, generator=generator)
        place = torch.rand(2, count, generator=generator, dtype=torch.float64)
        turns = torch.randint(8, (count,), generator=generator)
        device = self.low.pixels.device
        chosen, place, turns = chosen.to(device), place.to(device), turns.to(device)
        tops = (place[0] * (self.low.heights[chosen] - side + 1)).long()
        lefts = (place[1] * (self.low.widths[chosen] - side + 1)).long()
        return (
            self.low.crops(chosen, tops, lefts, side, turns),
            self.high.crops(
                chosen, tops * self.scale, lefts * self.scale, side * self.scale, turns
            ),
        )


def read_image(path: Path) -> Tensor:
    """One picture as a uint8 Tensor of shape (H, W, 3), RGB.

    Raises
    ------
    MediaError
        If the file is no picture that can be read.
    """
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, UnidentifiedImageError) as error:
        raise MediaError(f"{path} cannot be read as a picture ({error}); remove it") from error


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names.

    Raises
    ------
    ConfigError
        If the folder does not exist or holds none.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ConfigError(
            f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}); name another folder"
        )
    return found


def held_out(path: Path, share: float) -> bool:
    """Whether a picture belongs to validation: the same for all crops of one photograph.

    Crops of one photograph share the name but for a last ``_number``.
    """
    origin = re.sub(r"_\d+$", "", path.stem)
    return zlib.crc32(origin.encode()) / 2**32 < share
