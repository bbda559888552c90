import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.pack import Pack, kept


def numbered(height, width, start=0):
    """An image whose every sample is different, modulo 251."""
    count = torch.arange(start, start + height * width * 3)
    return (count % 251).to(torch.uint8).reshape(height, width, 3)


IMAGES = [numbered(6, 9), numbered(7, 5, 100)]


def images_from(first):
    return IMAGES[first:]


def asked_for(first):
    raise AssertionError(f"images from {first} on")


@pytest.mark.parametrize("turn", range(8))
def test_a_crop_is_the_square_that_it_names_in_each_of_eight_turns(turn):
    got = Pack.of(IMAGES).crops(
        torch.tensor([1, 0]),
        torch.tensor([2, 1]),
        torch.tensor([1, 4]),
        4,
        torch.tensor([turn] * 2),
    )
    for index, (chosen, top, left) in enumerate([(1, 2, 1), (0, 1, 4)]):
        square = IMAGES[chosen][top : top + 4, left : left + 4]
        if turn & 2:
            square = square.flip(0)
        if turn & 4:
            square = square.flip(1)
        if turn & 1:
            square = square.transpose(0, 1)
        assert torch.equal((got[index] * 255).round().byte().permute(1, 2, 0), square)


def test_images_are_those_that_were_laid_out_also_in_a_selection():
    pack = Pack.of([*IMAGES, numbered(2, 2)])
    assert len(pack) == 3
    assert all(torch.equal(pack.image(i), image) for i, image in enumerate(IMAGES))
    assert torch.equal(pack.only([2, 1]).image(1), IMAGES[1])


def test_a_kept_pack_is_written_once_and_mapped(tmp_path):
    first = kept(tmp_path / "deep" / "x.u8", "mark", images_from)
    again = kept(tmp_path / "deep" / "x.u8", "mark", asked_for)
    for pack in (first, again):
        assert len(pack) == 2
        assert all(torch.equal(pack.image(i), image) for i, image in enumerate(IMAGES))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["x.json", "x.u8"]


def test_another_fingerprint_writes_it_anew_and_leaves_the_one_in_use(tmp_path):
    before = kept(tmp_path / "x.u8", "mark", images_from)
    after = kept(tmp_path / "x.u8", "other", lambda _first: IMAGES[1:])
    assert len(after) == 1
    assert torch.equal(after.image(0), IMAGES[1])
    assert torch.equal(before.image(0), IMAGES[0])


def breaking(first):
    yield IMAGES[first]
    raise OSError("no more")


def test_a_pass_that_breaks_leaves_no_half_of_a_pack_and_is_gone_on_with(tmp_path):
    kept(tmp_path / "x.u8", "mark", images_from)
    for _twice in range(2):  # the second has the rest to do, and breaks there
        with pytest.raises((OSError, IndexError)):
            kept(tmp_path / "x.u8", "other", breaking)
        assert not (tmp_path / "x.json").exists()
    asked = []
    pack = kept(tmp_path / "x.u8", "other", lambda first: asked.append(first) or IMAGES[first:])
    assert asked == [2]
    assert all(torch.equal(pack.image(i), image) for i, image in enumerate(IMAGES))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.u8"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_pack import IMAGES
from training import pack

def images(first):
    yield from IMAGES
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("here", flush=True)
    sys.stdin.read()

pack.NOTED_EVERY_S = 0
pack.kept(Path(sys.argv[1]), "mark", images)
"""


def begun(tmp_path, how):
    words = [sys.executable, "-c", KILLED, tmp_path / "x.u8", Path(__file__).parent, how]
    root = Path(__file__).parents[1]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)


def test_what_a_killed_process_wrote_is_gone_on_with(tmp_path):
    with begun(tmp_path, "killed") as process:
        process.wait(100)
    (part,) = tmp_path.glob("*.part")
    with part.open("ab") as file:
        file.write(b"half of one more")
    more = numbered(3, 3, 50)
    pack = kept(tmp_path / "x.u8", "mark", lambda first: [*IMAGES, more][first:])
    assert all(torch.equal(pack.image(i), image) for i, image in enumerate([*IMAGES, more]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.u8"]


def test_what_it_wrote_of_other_images_is_removed(tmp_path):
    with begun(tmp_path, "killed") as process:
        process.wait(100)
    assert len(kept(tmp_path / "x.u8", "other", lambda _first: IMAGES[1:])) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.u8"]


def test_what_another_process_is_at_is_left_to_it(tmp_path):
    with begun(tmp_path, "alive") as process:
        assert process.stdout.readline() == b"here\n"
        (part,) = tmp_path.glob("*.part")
        written = part.read_bytes()
        assert len(kept(tmp_path / "x.u8", "mark", images_from)) == 2
        assert part.read_bytes() == written
        process.communicate(timeout=100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.u8"]
