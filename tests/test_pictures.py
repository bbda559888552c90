import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srpipe.errors import ConfigError, MediaError
from training.pictures import (
    copies,
    held_out,
    likeness,
    pictures,
    read_image,
    turned,
)


def test_pictures_are_found_in_nested_folders_but_not_in_hidden_ones(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt", "deep/er/c.TIF", ".trash/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in pictures(tmp_path)] == ["a.jpg", "b.png", "c.TIF"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no pictures"):
        pictures(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_named_wherever_it_lies(tmp_path, locked):
    (tmp_path / "a.png").write_bytes(b"")
    for folder in (locked, tmp_path):
        with pytest.raises(MediaError, match=r"locked cannot be read \(Permission denied\)"):
            pictures(folder)


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


def test_a_large_picture_is_read_without_a_warning(tmp_path, monkeypatch):
    """Pillow's, of two lines: it could be an attack."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size - 1)
    Image.fromarray(GREY).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").shape == (3, 4, 3)


def test_a_picture_that_memory_has_no_room_for_is_not_to_be_removed(tmp_path, monkeypatch):
    def convert(*_args, **_more):
        raise MemoryError

    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "x.png")


DEEP = np.random.default_rng(0).integers(0, 2**16, (9, 8, 3), np.uint16)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("kind", ["png", "tif", "lzw.tif", "planes.tif"])
def test_colour_of_16_bits_is_rounded_as_grey_is(tmp_path, kind, alpha):
    """Pillow cuts it off, so that a quarter of the samples was a level off, and mixes planes up."""
    pixels = np.concatenate([DEEP, DEEP[..., :1]], -1) if alpha else DEEP
    path = tmp_path / f"x.{kind}"
    if kind == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        how = {"lzw.tif": {"compression": "lzw"}, "planes.tif": {"planarconfig": "separate"}}
        planes = np.moveaxis(pixels, -1, 0) if kind == "planes.tif" else pixels
        extra = {"extrasamples": ["unassalpha"]} if alpha else {}
        tifffile.imwrite(path, planes, photometric="rgb", **extra, **how.get(kind, {}))
    assert (read_image(path).numpy() == (DEEP / 257).round()).all()


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32])
def test_samples_whose_range_nobody_states_are_refused(tmp_path, kind):
    """Half of them, or nearly all, became white or black."""
    tifffile.imwrite(tmp_path / "x.tif", DEEP[..., 0].astype(kind))
    with pytest.raises(MediaError, match=r"x\.tif cannot be read.* no known range"):
        read_image(tmp_path / "x.tif")


def test_a_palette_is_read_as_its_colours(tmp_path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png")[..., 0] == torch.from_numpy(GREY)).all()


def test_a_broken_picture_and_one_of_floats_are_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.png cannot be read"):
        read_image(tmp_path / "broken.png")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(MediaError, match=r"float\.tif cannot be read.* float .*range"):
        read_image(tmp_path / "float.tif")


def apart(names, share):
    found = set(held_out(names, share))
    return [number in found for number in range(len(names))]


def test_crops_of_one_photograph_are_held_out_together(tmp_path):
    names = [
        tmp_path / f"{k % 2}" / f"photo{i}_{k}.{'png' if i % 2 else 'jpg'}"
        for i in range(99)
        for k in range(9)
    ]
    found = apart(names, 0.3)
    groups = [set(found[start : start + 9]) for start in range(0, len(names), 9)]
    assert all(len(group) == 1 for group in groups)
    assert 15 < sum(group == {True} for group in groups) < 45


@pytest.mark.parametrize("share", [0.3, 0.001])
def test_sub_images_of_one_photograph_are_held_out_together(tmp_path, share):
    names = [tmp_path / f"{i:04}_s{k:03}.png" for i in range(40) for k in range(9)]
    found = apart(names, share)
    assert any(found)
    assert all(len(set(found[start : start + 9])) == 1 for start in range(0, len(names), 9))


def test_one_photograph_is_held_out_at_least(tmp_path):
    names = [tmp_path / f"photo{i}_{k}.png" for i in range(5) for k in range(3)]
    found = apart(names, 1e-9)
    assert sum(found) == 3
    first = found.index(True)
    assert first % 3 == 0
    assert all(found[first : first + 3])


@pytest.mark.parametrize("camera", ["IMG", "DSC", "frame"])
def test_pictures_that_a_camera_numbered_are_not_one_photograph(tmp_path, camera):
    names = [tmp_path / f"{camera}_{i:04}.png" for i in range(60)]
    assert 3 < sum(apart(names, 0.2)) < 24
    crops = [tmp_path / f"photo{i}_{k}.png" for i in range(20) for k in range(4)]
    found = apart([*names, *crops], 0.2)[60:]
    assert all(len(set(found[start : start + 4])) == 1 for start in range(0, 80, 4))


def test_pictures_in_a_linked_folder_are_found_once(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").write_bytes(b"")
    (tmp_path / "images" / "near").symlink_to(tmp_path / "far")
    (tmp_path / "images" / "twice").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "round").symlink_to(tmp_path / "images")
    assert pictures(tmp_path / "images") == [tmp_path / "images" / "near" / "a.png"]


def test_a_picture_that_is_too_large_to_be_safe_is_named(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(MediaError, match=r"bomb\.png cannot be read"):
        read_image(tmp_path / "bomb.png")


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


def test_a_picture_that_was_turned_or_mirrored_is_known_again():
    image = photograph(1)
    known = [likeness(each) for each in turned(image)]
    again = [image.rot90(1), image.flip(0), image.transpose(0, 1), image]
    assert copies([likeness(each) for each in again], known) == [True] * 4
    assert not any(copies([likeness(photograph(2).rot90(1))], known))


def test_a_picture_in_grey_is_a_copy_of_it_in_colour():
    colours = np.random.default_rng(5).integers(0, 256, (8, 9, 3), np.uint8)
    picture = Image.fromarray(colours).resize((170, 160), Image.Resampling.BICUBIC)
    grey, colour = (torch.from_numpy(np.array(each)) for each in (picture.convert("L"), picture))
    assert copies([likeness(grey.unsqueeze(-1).expand(-1, -1, 3))], [likeness(colour)]) == [True]


def test_drawings_on_white_are_not_copies_of_each_other():
    def drawing(top, left):
        image = torch.full((160, 170, 3), 255, dtype=torch.uint8)
        image[top : top + 30, left : left + 30] = 0
        return likeness(image)

    assert copies([drawing(20, 20), drawing(90, 100)], [drawing(90, 100)]) == [False, True]
    empty = likeness(torch.full((160, 170, 3), 255, dtype=torch.uint8))
    assert copies([empty], [empty, drawing(20, 20)]) == [False]


def test_a_name_may_be_no_text():
    """Nor does it matter to those that are."""
    names = [f"a{i}.png" for i in range(40)]
    assert (
        held_out([Path(name) for name in [*names, "caf\udce9.png"]], 0.2)[:5]
        == held_out([Path(name) for name in names], 0.2)[:5]
    )
