import numpy as np
import pytest
import torch
from PIL import Image

from srpipe.errors import ConfigError, MediaError
from training.data import Pack, Pairs, held_out, pictures, read_image
from training.degrade import bicubic


def numbered(height, width, start=0):
    """An image whose every sample is different, modulo 256."""
    count = torch.arange(start, start + height * width * 3)
    return (count % 251).to(torch.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("turn", range(8))
def test_a_crop_is_the_square_that_it_names_in_each_of_eight_turns(turn):
    images = [numbered(6, 9), numbered(7, 5, 100)]
    pack = Pack.of(images)
    got = pack.crops(
        torch.tensor([1, 0]),
        torch.tensor([2, 1]),
        torch.tensor([1, 4]),
        4,
        torch.tensor([turn] * 2),
    )
    for index, (chosen, top, left) in enumerate([(1, 2, 1), (0, 1, 4)]):
        square = images[chosen][top : top + 4, left : left + 4]
        if turn & 2:
            square = square.flip(0)
        if turn & 4:
            square = square.flip(1)
        if turn & 1:
            square = square.transpose(0, 1)
        assert torch.equal((got[index] * 255).round().byte().permute(1, 2, 0), square)


def test_low_and_high_squares_show_the_same_place():
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    ramp = torch.stack((y * 4, x * 3, (x + y) * 2), -1).round().to(torch.uint8)
    pairs = Pairs.of([ramp], 4)
    batches = pairs.batches(16, 16, torch.Generator().manual_seed(0))
    low, high = next(batches)
    assert low.shape == (16, 3, 4, 4)
    assert high.shape == (16, 3, 16, 16)
    averaged = torch.nn.functional.avg_pool2d(high, 4)
    assert (low - averaged)[..., 1:-1, 1:-1].abs().max() < 2.5 / 255


def test_the_generators_state_is_the_position_in_the_data():
    pairs = Pairs.of([numbered(32, 32), numbered(24, 40)], 4)
    generator = torch.Generator().manual_seed(3)
    batches = pairs.batches(2, 8, generator)
    next(batches)
    state = generator.get_state()
    wanted = [next(batches)[1] for _ in range(3)]
    again = torch.Generator()
    again.set_state(state)
    rest = pairs.batches(2, 8, again)
    assert all(torch.equal(a, next(rest)[1]) for a in wanted)


@pytest.mark.parametrize("patch", [10, 64])
def test_a_patch_that_does_not_fit_is_refused(patch):
    pairs = Pairs.of([numbered(32, 32)], 4)
    with pytest.raises(ConfigError, match=f"patch of {patch} px does not fit"):
        next(pairs.batches(1, patch, torch.Generator()))


def test_the_low_image_is_rounded_to_eight_bits():
    low = bicubic(numbered(16, 16), 4)
    assert (low.dtype, low.shape) == (torch.uint8, (4, 4, 3))


def test_a_flat_image_stays_flat_when_reduced():
    assert (bicubic(torch.full((8, 8, 3), 77, dtype=torch.uint8), 4) == 77).all()


def test_pictures_are_found_by_name_and_a_folder_without_is_refused(tmp_path):
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in pictures(tmp_path)] == ["a.jpg", "b.png"]
    with pytest.raises(ConfigError, match="holds no pictures"):
        pictures(tmp_path / "nowhere")


def test_a_picture_is_read_as_rgb_and_a_broken_one_is_named(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert image.shape == (3, 4, 3)
    assert torch.equal(image[..., 2], torch.from_numpy(grey))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.png cannot be read"):
        read_image(tmp_path / "broken.png")


def test_crops_of_one_photograph_are_held_out_together(tmp_path):
    groups = [{held_out(tmp_path / f"photo{i}_{k}.png", 0.3) for k in range(9)} for i in range(99)]
    assert all(len(group) == 1 for group in groups)
    assert 15 < sum(group == {True} for group in groups) < 45
