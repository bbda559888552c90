"""What a claim says of a file, and of one that took its place."""

import os

import pytest

from srpipe.jobs.claims import claim, claim_of, has_claims, is_claimed


@pytest.fixture
def place(tmp_path):
    return claim_of(tmp_path, "deep/a.png")


def test_a_claim_outlasts_a_new_name(tmp_path, place):
    (tmp_path / "part").write_bytes(b"123")
    assert not has_claims(tmp_path)
    claim(place, tmp_path / "part")
    os.replace(tmp_path / "part", tmp_path / "a.png")
    assert has_claims(tmp_path)
    assert is_claimed(place, tmp_path / "a.png")
    assert not is_claimed(claim_of(tmp_path, "deep/b.png"), tmp_path / "a.png")


def test_a_folder_is_claimed_like_a_file(tmp_path, place):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "0").write_bytes(b"1")
    claim(place, tmp_path / "a.zarr")
    assert is_claimed(place, tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "1").write_bytes(b"1")
    assert not is_claimed(place, tmp_path / "a.zarr")


@pytest.mark.parametrize(("content", "moved_ns"), [(b"1234", 0), (b"321", 1)])
def test_a_file_of_another_size_or_time_is_not_claimed(tmp_path, place, content, moved_ns):
    path = tmp_path / "a.png"
    path.write_bytes(b"123")
    time_ns = path.stat().st_mtime_ns
    claim(place, path)
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns + moved_ns * 1000))
    assert not is_claimed(place, path)


def test_a_claim_that_was_cut_short_says_nothing(tmp_path, place):
    (tmp_path / "a.png").write_bytes(b"123")
    claim(place, tmp_path / "a.png")
    place.write_text(place.read_text()[:-1])
    assert not is_claimed(place, tmp_path / "a.png")


def test_a_claim_is_on_the_disk_with_its_name(tmp_path, place, monkeypatch):
    """Its name was not, so that a power cut could leave a result that was nobody's."""
    real, reached = os.fsync, set()

    def noted(file):
        reached.add(os.fstat(file).st_ino)
        real(file)

    monkeypatch.setattr(os, "fsync", noted)
    (tmp_path / "a.png").write_bytes(b"123")
    claim(place, tmp_path / "a.png")
    assert {place.stat().st_ino, place.parent.stat().st_ino} <= reached
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.png", place.name])
