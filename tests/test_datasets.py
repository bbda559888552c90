import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from video_files import make, pictures

from srpipe.datasets import Pictures, together
from srpipe.errors import ConfigError, MediaError


def draw(path, value=0, size=(4, 5)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def test_a_folder_gives_its_pictures_in_order_and_nothing_else(tmp_path):
    for name, value in [("b.png", 51), ("a.png", 255), (".hidden.png", 0)]:
        draw(tmp_path / "set" / name, value)
    (tmp_path / "set" / "readme.txt").write_text("words")
    found = Pictures.at(tmp_path / "set")
    assert (found.name, found.count, found.moving) == ("set", 2, False)
    assert [(name, x.shape, x.mean().item()) for name, x in found] == [
        ("a.png", (1, 3, 4, 5), 1.0),
        ("b.png", (1, 3, 4, 5), pytest.approx(0.2)),
    ]


def test_grey_16_bits_and_opacity_are_rgb_from_0_to_1(tmp_path):
    Image.fromarray(np.full((4, 5), 51, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 5, 4), 51, np.uint8)).save(tmp_path / "alpha.png")
    tifffile.imwrite(tmp_path / "wide.tif", np.full((4, 5, 3), 13107, np.uint16), photometric="rgb")
    for name in ("grey.png", "alpha.png", "wide.tif"):
        ((_, x),) = Pictures.at(tmp_path / name)
        assert torch.allclose(x, torch.full((1, 3, 4, 5), 0.2))


def test_rasters_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", np.full((4, 5, 3), 0.5, np.float32), photometric="rgb")
    for place in (tmp_path, tmp_path / "f.tif"):
        with pytest.raises(MediaError, match="numbers, not a picture"):
            list(Pictures.at(place))


def test_a_video_gives_its_frames_as_ffmpeg_decodes_them(tmp_path):
    path = make(tmp_path / "v.mkv", codec="ffv1", fmt="bgr0", times=[0, 40, 80])
    found = Pictures.at(path)
    assert (found.name, found.moving) == ("v.mkv", True)
    wanted = [frame.to_ndarray(format="rgb24") for _, _, frame in pictures(path)]
    frames = list(found)
    assert [name for name, _ in frames] == ["frame 1", "frame 2", "frame 3"]
    for (_, x), rgb in zip(frames, wanted, strict=True):
        assert np.array_equal((x[0] * 255).round().byte().permute(1, 2, 0).numpy(), rgb)


def test_results_are_found_by_what_they_were_made_from(tmp_path):
    truth = ["1", "10", "baby", "baby_2", "tree"]
    made = ["10_eagcl_x4", "1x4", "baby_2.out", "baby_gpsr_x4", "tree"]
    for folder, names in [("truth", truth), ("made", made)]:
        for name in names:
            draw(tmp_path / folder / f"{name}.png")
    beside = Pictures.at(tmp_path / "truth").beside(Pictures.at(tmp_path / "made"))
    assert [file.stem for file in beside.files] == [
        *("1x4", "10_eagcl_x4", "baby_gpsr_x4", "baby_2.out", "tree")
    ]


def test_pictures_without_a_partner_or_with_several_are_refused(tmp_path):
    for name in ("truth/a.png", "truth/b.png", "made/a_x2.png"):
        draw(tmp_path / name)
    truth = Pictures.at(tmp_path / "truth")
    with pytest.raises(ConfigError, match=r"b\.png needs one partner in .*made, and has none"):
        truth.beside(Pictures.at(tmp_path / "made"))
    draw(tmp_path / "made" / "b.png")
    draw(tmp_path / "made" / "b_x2.png")
    with pytest.raises(ConfigError, match=r"has b\.png and b_x2\.png"):
        truth.beside(Pictures.at(tmp_path / "made"))
    draw(tmp_path / "made" / "c.png")
    with pytest.raises(ConfigError, match=r"holds nothing that .*c\.png could belong to"):
        truth.beside(Pictures.at(tmp_path / "made"))
    with pytest.raises(ConfigError, match="name two folders, two pictures or two videos"):
        truth.beside(Pictures.at(tmp_path / "truth" / "a.png"))


def test_videos_of_different_lengths_do_not_belong_together(tmp_path):
    short = make(tmp_path / "short.mkv", codec="ffv1", times=[0, 40])
    long = make(tmp_path / "long.mkv", codec="ffv1", times=[0, 40, 80])
    rows = together([Pictures.at(short), Pictures.at(long)])
    assert [next(rows)[0], next(rows)[0]] == ["frame 1", "frame 2"]
    with pytest.raises(MediaError, match=r"short\.mkv has fewer frames than .*long\.mkv"):
        next(rows)


def test_what_holds_nothing_to_measure_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no pictures"):
        Pictures.at(tmp_path / "empty")
    with pytest.raises(MediaError, match="does not exist"):
        Pictures.at(tmp_path / "nowhere")
    Image.new("RGB", (4, 4)).save(tmp_path / "empty" / "a.bmp")
    with pytest.raises(MediaError, match="convert it to PNG"):
        list(Pictures.at(tmp_path / "empty"))
