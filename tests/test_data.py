import os
import shutil

import pytest
import torch
from PIL import Image

from srpipe.errors import ConfigError, MediaError
from training.data import TAKES, Pairs, load
from training.degrade import bicubic
from training.pack import Pack
from training.recipe import Data

CPU = torch.device("cpu")
SPOILED = [
    {},
    {"noise": (1, 9), "jpeg": (30, 90)},
    {"h264": (20, 40)},
    {"jpeg": (30, 90), "h264": (20, 40)},
]


def wave(seed, height=48, width=40):
    torch.manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 8), (height, width), mode="bicubic")
    return (x[0].permute(1, 2, 0).clamp(0, 1) * 255).byte()


def pairs_of(images, scale=4, *, films=False):
    """Pairs; frames of videos are negatives, so that they can be told."""
    low = [bicubic(image, scale) for image in images]
    takes = [bicubic(255 - image, scale) + take for image in images for take in range(TAKES)]
    return Pairs(Pack.of(low), Pack.of(images), scale, frames=Pack.of(takes) if films else None)


@pytest.fixture
def data(tmp_path):
    """A folder of six photographs, one in a folder of its own, and how to read it."""

    def make(**changes):
        (tmp_path / "images" / "deep").mkdir(parents=True, exist_ok=True)
        for i in range(6):
            path = tmp_path / "images" / ("deep" if i == 3 else "") / f"{i}.png"
            if not path.exists():
                Image.fromarray(wave(i).numpy()).save(path)
        given = {"folder": tmp_path / "images", "patch": 16, "batch": 4, "holdout": 0.2, **changes}
        return Data(cache=tmp_path / "cache", **given)

    return make


def test_low_and_high_squares_show_the_same_place():
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    ramp = torch.stack((y * 4, x * 3, (x + y) * 2), -1).round().to(torch.uint8)
    batches = pairs_of([ramp]).batches(Data(patch=16, batch=16), torch.Generator().manual_seed(0))
    low, high = next(batches)
    assert low.shape == (16, 3, 4, 4)
    assert high.shape == (16, 3, 16, 16)
    averaged = torch.nn.functional.avg_pool2d(high, 4)
    assert (low - averaged)[..., 1:-1, 1:-1].abs().max() < 2.5 / 255


@pytest.mark.parametrize("spoiled", SPOILED)
def test_the_generators_state_is_the_position_in_the_data(spoiled):
    pairs = pairs_of([wave(1), wave(2, 24, 40)], films="h264" in spoiled)
    how = Data(patch=8, batch=2, **spoiled)
    generator = torch.Generator().manual_seed(3)
    batches = pairs.batches(how, generator)
    next(batches)
    state = generator.get_state()
    wanted = [next(batches) for _ in range(3)]
    again = torch.Generator()
    again.set_state(state)
    rest = pairs.batches(how, again)
    for batch in wanted:
        assert all(torch.equal(a, b) for a, b in zip(batch, next(rest), strict=True))


@pytest.mark.parametrize("spoiled", SPOILED)
def test_the_shares_of_several_processes_make_up_the_batch_of_one(spoiled):
    pairs = pairs_of([wave(1), wave(2)], films="h264" in spoiled)
    how = Data(patch=16, batch=6, **spoiled)
    whole = pairs.batches(how, torch.Generator().manual_seed(5))
    parts = [
        pairs.batches(how, torch.Generator().manual_seed(5), rank=rank, of=2) for rank in (0, 1)
    ]
    for _ in range(2):
        wanted, shares = next(whole), [next(part) for part in parts]
        for kind in (0, 1):
            for rank in (0, 1):
                assert torch.equal(shares[rank][kind], wanted[kind][rank::2])


def test_noise_and_compression_reach_the_low_squares_alone():
    pairs = pairs_of([torch.full((64, 64, 3), 128, dtype=torch.uint8)])
    low, high = next(pairs.batches(Data(patch=32, batch=2, noise=(9, 9)), torch.Generator()))
    assert low.std() > 0.02
    assert high.std() == 0


def test_squares_of_videos_are_of_the_same_place_and_half_where_others_are_of_jpegs():
    pairs, chance = pairs_of([wave(1), wave(2)], films=True), torch.Generator().manual_seed(2)
    low, high = next(pairs.batches(Data(patch=16, batch=64, h264=(20, 40)), chance))
    inside = (low + torch.nn.functional.avg_pool2d(high, 4))[..., 1:-1, 1:-1]
    assert (inside - 1).abs().mean() < 12 / 255  # takes add up to 5 levels
    assert len({round(float(each.mean()) * 255, 1) for each in inside}) > 2
    how = Data(patch=16, batch=64, h264=(20, 40), jpeg=(95, 95))
    low, high = next(pairs.batches(how, chance))
    truth = torch.nn.functional.avg_pool2d(high, 4)
    negatives = (low - truth).abs().mean((1, 2, 3)) > (1 - low - truth).abs().mean((1, 2, 3))
    assert 16 < negatives.sum() < 48


def test_a_folder_is_packed_once_and_again_when_a_picture_changes(data, monkeypatch):
    from training import data as module

    read = []
    real = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: read.append(path.name) or real(path))
    first, held = load(data(), 4, CPU)
    assert (len(read), len(first.high) + len(held)) == (6, 6)
    again, _ = load(data(), 4, CPU)
    assert len(read) == 6
    assert torch.equal(first.high.pixels, again.high.pixels)
    load(data(), 2, CPU)  # another scale has its own low images, of the same pictures
    assert len(read) == 6
    path = data().folder / "deep" / "3.png"
    Image.fromarray(wave(99).numpy()).save(path)
    os.utime(path, ns=(1, 1))
    load(data(), 4, CPU)
    assert len(read) == 12


def test_a_long_first_pass_tells_how_far_it_is(data, monkeypatch):
    monkeypatch.setattr("training.data.TOLD_EVERY_S", 0)
    lines = []
    load(data(h264=(30, 30)), 4, CPU, lines.append)
    assert lines.index("pictures decoded: 6 of 6") < lines.index("pictures reduced: 1 of 6")
    assert lines[-1] == f"frames of videos: {6 * TAKES} of {6 * TAKES}"
    lines.clear()
    load(data(h264=(30, 30)), 4, CPU, lines.append)
    assert lines == []  # it is done


def test_low_images_are_the_reduced_high_ones(data):
    pairs, held = load(data(), 4, CPU)
    for i in range(len(pairs.high)):
        assert torch.equal(pairs.low.image(i), bicubic(pairs.high.image(i), 4))
    low, high = held[0]
    pixels = (high[0].permute(1, 2, 0) * 255).round().byte()
    assert torch.equal((low[0].permute(1, 2, 0) * 255).round().byte(), bicubic(pixels, 4))


@pytest.mark.parametrize("jpeg", [(0, 0), (60, 60)])
def test_low_images_are_of_videos_too(data, jpeg):
    how = data(h264=(25, 25), jpeg=jpeg)
    pairs, held = load(how, 4, CPU)
    clean, truths = load(data(), 4, CPU)
    assert len(pairs.frames) == TAKES * len(pairs.low)
    for i in range(len(pairs.low)):
        for take in range(TAKES):
            frame = pairs.frames.image(TAKES * i + take).float()
            far = [(frame - clean.low.image(j).float()).abs().mean() for j in range(len(clean.low))]
            assert 0 < min(far) == far[i]
    for (low, high), (was, truth) in zip(held, truths, strict=True):
        assert torch.equal(high, truth)
        assert 0 < (low - was).abs().mean() < 0.2
    again, _ = load(how, 4, CPU)
    assert torch.equal(again.frames.pixels, pairs.frames.pixels)


def test_a_copy_of_a_held_out_picture_is_not_trained_on(data):
    how = data()
    before, held = load(how, 4, CPU)
    pixels = (held[0][1][0].permute(1, 2, 0) * 255).round().byte().numpy()
    for i in range(20):  # under some of these names it is not held out
        Image.fromarray(pixels).save(how.folder / f"copy{i}x.png")
    after, _ = load(how, 4, CPU)
    assert len(after.high) == len(before.high)
    assert after.left_out > 0


def test_a_turned_copy_of_a_held_out_picture_is_not_trained_on(data):
    how = data()
    before, held = load(how, 4, CPU)
    pixels = (held[0][1][0].permute(1, 2, 0) * 255).round().byte()
    for i in range(8, 20):  # under none of these names it is held out
        Image.fromarray(pixels.rot90(i % 4).numpy()).save(how.folder / f"turned{i}x.png")
    after, _ = load(how, 4, CPU)
    assert len(after.high) == len(before.high)


def test_a_held_out_picture_that_is_too_small_to_validate_with_is_named(data):
    how = data(patch=8)
    for i in range(6):
        Image.fromarray(wave(i, 16, 40).numpy()).save(how.folder / f"small{i}.png")
    with pytest.raises(ConfigError, match=r"small\d\.png is held out .* needs 19 px of each"):
        load(data(patch=8, holdout=0.9), 4, CPU)


def test_a_link_to_nowhere_is_named(data):
    how = data()
    (how.folder / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(MediaError, match=r"gone\.png cannot be read \(No such file"):
        load(how, 4, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 10}, "patch of 10 px cannot be reduced by 4; use a multiple of 4"),
        ({"patch": 44}, r"44 px does not fit into 6 of 6 pictures, of which .*\.png is 40 x 48 px"),
        ({"holdout": 1.0}, "leaves 0 pictures to train on and 6 to validate with"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        load(data(**changes), 4, CPU)


def test_a_picture_and_a_folder_may_have_names_that_are_no_text(data, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(data().folder, odd)
    first = next(path for path in sorted(odd.iterdir()) if path.suffix)
    first.rename(first.with_name(os.fsdecode(b"\xe9") + first.suffix))
    assert load(data(folder=odd), 4, CPU)
