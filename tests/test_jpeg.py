import io

import numpy as np
import pytest
import torch
from PIL import Image

from training.jpeg import _CHROMA, _LUMA, _steps, compressed


def smooth(channels):
    torch.manual_seed(1)
    small = torch.rand(1, channels, 12, 12)
    large = torch.nn.functional.interpolate(small, (64, 64), mode="bicubic").clamp(0, 1)
    return (large * 255).byte().expand(1, 3, 64, 64)


def by_libjpeg(image, quality, mode):
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy()).convert(mode)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(file).convert("RGB")).astype(int)


def test_the_tables_of_every_quality_are_libjpegs():
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        wanted = Image.open(file).quantization
        for number, table in enumerate((_LUMA, _CHROMA)):
            found = _steps(torch.tensor([float(quality)]), table).int().flatten().tolist()
            assert sorted(found) == sorted(wanted[number])


@pytest.mark.parametrize("quality", [10, 40, 75, 95])
@pytest.mark.parametrize(("mode", "off"), [("L", 0.25), ("RGB", 1.6)])
def test_it_does_what_libjpeg_does(mode, off, quality):
    image = smooth(1 if mode == "L" else 3)
    wanted = by_libjpeg(image, quality, mode)
    found = compressed(image / 255, torch.tensor([quality]))[0].permute(1, 2, 0) * 255
    assert np.abs(found.numpy() - wanted).mean() < off + 0.3  # which is not rounded
    assert np.abs(wanted - image[0].permute(1, 2, 0).numpy()).mean() > 2 * off or quality > 50


def test_images_of_a_batch_have_their_own_quality():
    image = (smooth(3) / 255).expand(2, 3, 64, 64)
    both = compressed(image, torch.tensor([10, 90]))
    assert torch.allclose(both[:1], compressed(image[:1], torch.tensor([10])), atol=1e-6)
    error = (both - image).abs().mean((1, 2, 3))
    assert error[0] > 2 * error[1]


def test_a_flat_block_stays_flat():
    image = torch.full((1, 3, 16, 16), 128 / 255)
    assert torch.allclose(compressed(image, torch.tensor([30])), image, atol=1e-6)
