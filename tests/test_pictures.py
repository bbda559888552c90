import io

import numpy as np
import pytest
import torch
from PIL import Image

from srpipe.errors import ConfigError, MediaError
from training.pictures import copies, held_out, likeness, pictures, read_image


def test_pictures_are_found_in_nested_folders_but_not_in_hidden_ones(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt", "deep/er/c.TIF", ".trash/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in pictures(tmp_path)] == ["a.jpg", "b.png", "c.TIF"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no pictures"):
        pictures(tmp_path / "nowhere")


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize(
    ("mode", "pixels"),
    [
        ("L", GREY),
        ("I;16", GREY.astype(np.uint16) * 257),
        ("LA", np.stack((GREY, GREY // 2), -1)),
        ("RGBA", np.stack((GREY, GREY, GREY, GREY // 2), -1)),
    ],
)
def test_a_picture_of_any_kind_is_read_as_rgb(tmp_path, mode, pixels):
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as saved:
        assert saved.mode == mode
    image = read_image(tmp_path / "x.png")
    assert (image.dtype, image.shape) == (torch.uint8, (3, 4, 3))
    assert (image == torch.from_numpy(GREY)[..., None]).all()


def test_a_palette_is_read_as_its_colours(tmp_path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png")[..., 0] == torch.from_numpy(GREY)).all()


def test_a_broken_picture_and_one_of_floats_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.png cannot be read"):
        read_image(tmp_path / "broken.png")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(MediaError, match=r"float\.tif cannot be read.*float"):
        read_image(tmp_path / "float.tif")


def test_crops_of_one_photograph_are_held_out_together(tmp_path):
    groups = [
        {held_out(tmp_path / f"{k % 2}" / f"photo{i}_{k}.{end}", 0.3) for k in range(9)}
        for i, end in zip(range(99), ("png", "jpg") * 50, strict=False)
    ]
    assert all(len(group) == 1 for group in groups)
    assert 15 < sum(group == {True} for group in groups) < 45


def photograph(seed, size=(96, 128)):
    torch.manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 12), size, mode="bicubic")
    return (x[0].permute(1, 2, 0).clamp(0, 1) * 255).byte()


def test_a_picture_saved_again_or_made_smaller_is_known_again():
    image = photograph(1)
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, "JPEG", quality=50)
    again = torch.from_numpy(np.array(Image.open(file)))
    smaller = torch.from_numpy(np.array(Image.fromarray(image.numpy()).resize((64, 48))))
    others = [photograph(seed) for seed in range(2, 12)]
    looks = [likeness(each) for each in (again, smaller, *others)]
    assert copies(looks, [likeness(image)]) == [True, True] + [False] * 10
