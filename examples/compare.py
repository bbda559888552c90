"""Draw a picture, reduce it, enlarge it: ``python examples/compare.py [FILE FILE FILE]``.

Side by side: bicubic, the fidelity weights, the perception weights, the truth; below them the
gradient map of each, that of the fidelity weights as the network's own branch predicts it. In the
second file: bicubic, the fidelity weights of every network, the truth. In the third, of the picture
as JPEG leaves it, and larger as x264 does: bicubic, the network for clean pictures, the one for
compressed ones, the truth.
"""

import sys
from functools import partial

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srpipe import codecs, zoo
from srpipe.gradients import gradient_map
from srpipe.pixels import from_unit, to_unit
from srpipe.resample import enlarge, low_resolution, reduce

SIDE = 224
COLUMNS = 4


def drawing() -> Tensor:
    """A wheel, a fence, some words; float32 RGB of shape (1, 3, SIDE, SIDE) in [0, 1]."""
    fine = 4 * SIDE
    image = Image.new("RGB", (fine, fine), (236, 230, 214))
    draw = ImageDraw.Draw(image)
    for number in range(18):
        start = number * 20
        shade = ((38, 70, 83), (233, 196, 106))[number % 2]
        draw.pieslice((60, 60, 560, 560), start, start + 20, fill=shade)
    draw.ellipse((240, 240, 380, 380), fill=(200, 60, 40))
    for number in range(6):
        x = 610 + 46 * number
        draw.line((x, 70, x - 120, 560), fill=(40, 110, 90), width=20)
    words = ("every", "frame")
    for line, text in enumerate(words):
        font = ImageFont.load_default(150)
        draw.text((64, 575 + 145 * line), text, (30, 30, 40), font)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    unit = to_unit(pixels.view(fine, fine, 3), 8).permute(2, 0, 1)[None]
    return reduce(unit, 4).clamp(0, 1)


def sheet(rows: list[list[Tensor]]) -> Image.Image:
    """Pictures (1, 3, H, W) in rows, with white gaps."""
    gap = torch.ones(1, 3, rows[0][0].shape[-2], 6)
    lines = [torch.cat([part for p in row for part in (p, gap)][:-1], -1) for row in rows]
    gap = torch.ones(1, 3, 6, lines[0].shape[-1])
    whole = torch.cat([part for line in lines for part in (line, gap)][:-1], -2)
    return Image.fromarray(from_unit(whole, 8)[0].permute(1, 2, 0).numpy())


def stages(truth: Tensor, low: Tensor) -> Image.Image:
    """What the two stages make of a picture, and the gradient maps."""
    fidelity, edges = zoo.load("eagcl", perception=0).network(low, return_gradient=True)
    perception = zoo.load("eagcl", perception=1).network(low)
    pictures = [enlarge(low, 4), fidelity, perception, truth]
    maps = [gradient_map(pictures[0]), edges, *map(gradient_map, pictures[2:])]
    return sheet([pictures, maps])


def families(truth: Tensor, low: Tensor) -> Image.Image:
    """What the networks make of a picture, each with its name."""
    pictures = {"bicubic": enlarge(low, 4)}
    for entry in zoo.entries():
        if entry.scale == 4 and entry.card.source == "clean":
            pictures[entry.model] = zoo.load(entry.model, scale=4, perception=0).network(low)
    pictures["truth"] = truth
    shown = list(pictures.values())
    shown += [torch.ones_like(truth)] * (-len(shown) % COLUMNS)
    image = sheet([shown[at : at + COLUMNS] for at in range(0, len(shown), COLUMNS)])
    draw = ImageDraw.Draw(image)
    for number, name in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        draw.text((column * (SIDE + 6) + 5, row * (SIDE + 6) + 2), name, (30, 30, 40))
    return image


def sources(truth: Tensor) -> Image.Image:
    """What networks for clean and for compressed pictures make of compressed ones."""
    rows = []
    for family, scale, codec in (
        ("eagcl", 4, partial(codecs.jpeg, quality=50)),
        ("rdam", 2, partial(codecs.h264, factor=30)),
    ):
        (low,) = codec([low_resolution(truth, scale)])
        names = (family, f"{family}-compressed")
        networks = [zoo.load(name, scale=scale, perception=0).network for name in names]
        rows.append([enlarge(low, scale), *(network(low) for network in networks), truth])
    return sheet(rows)


def main(
    path: str = "example.png", second: str = "models.png", third: str = "compressed.png"
) -> None:
    truth = drawing()
    low = to_unit(from_unit(reduce(truth, 4), 8), 8)
    stages(truth, low).save(path)
    families(truth, low).save(second)
    sources(truth).save(third)
    print(f"{path}: bicubic, fidelity, perception, truth; below, their gradient maps")
    print(f"{second}: every network; {third}: compressed pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
