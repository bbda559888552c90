import pytest
import torch

from training.pack import Pack, kept


def numbered(height, width, start=0):
    """An image whose every sample is different, modulo 251."""
    count = torch.arange(start, start + height * width * 3)
    return (count % 251).to(torch.uint8).reshape(height, width, 3)


IMAGES = [numbered(6, 9), numbered(7, 5, 100)]


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
    first = kept(tmp_path / "deep" / "x.u8", "mark", iter(IMAGES))
    again = kept(tmp_path / "deep" / "x.u8", "mark", iter(()))
    for pack in (first, again):
        assert len(pack) == 2
        assert all(torch.equal(pack.image(i), image) for i, image in enumerate(IMAGES))
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["x.json", "x.u8"]


def test_another_fingerprint_writes_it_anew_and_leaves_the_one_in_use(tmp_path):
    before = kept(tmp_path / "x.u8", "mark", iter(IMAGES))
    after = kept(tmp_path / "x.u8", "other", iter(IMAGES[1:]))
    assert len(after) == 1
    assert torch.equal(after.image(0), IMAGES[1])
    assert torch.equal(before.image(0), IMAGES[0])


def test_a_pass_that_breaks_leaves_no_half_of_a_pack(tmp_path):
    def broken():
        yield IMAGES[0]
        raise OSError("no more")

    kept(tmp_path / "x.u8", "mark", iter(IMAGES))
    with pytest.raises(OSError, match="no more"):
        kept(tmp_path / "x.u8", "other", broken())
    assert not list(tmp_path.glob("*.part"))
    assert len(kept(tmp_path / "x.u8", "mark", iter(IMAGES[:1]))) == 1  # written anew
