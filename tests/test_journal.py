"""What a job's folder says after a power cut at any byte of its journal."""

import json
import os

import pytest

from srpipe.errors import ConfigError, TargetError
from srpipe.jobs.job import Unit, part_of_slot, sealed, slot
from srpipe.jobs.journal import (
    FINGERPRINT,
    RECEIPTS,
    Journal,
    check,
    difference,
    has_work,
    identity,
    is_outdated,
    receipts,
)

PRINT = {"input": {"bytes": 3}, "setting": {"crf": 18, "codec": None}}


def unit(number):
    return Unit(name=f"u{number}", size=2, facts={"first": 2 * number})


def fill(folder, number):
    part = part_of_slot(folder, unit(number).name)
    part.write_bytes(bytes([number]) * 50)
    return sealed(part, folder, unit(number), seconds=0.5, facts={"n": number})


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path, PRINT)
    for number in range(3):
        journal.add(fill(tmp_path, number))
    yield journal
    journal.close()


def again(folder):
    journal = Journal(folder, PRINT)
    try:
        return [number for number in range(4) if journal.kept(unit(number))]
    finally:
        journal.close()


def test_receipts_are_found_again(tmp_path, journal):
    assert again(tmp_path) == [0, 1, 2]
    receipt = journal.kept(unit(1))
    assert (receipt.bytes, receipt.size, receipt.facts) == (50, 2, {"n": 1})


def test_a_journal_that_ends_anywhere_keeps_every_whole_line(tmp_path, journal):
    path = tmp_path / RECEIPTS
    whole = path.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    for length in [0, 1, *(end + near for end in ends for near in (-99, -1, 0, 1))]:
        path.write_bytes(whole[:length])
        lines = sum(end < length for end in ends)
        found = Journal(tmp_path, PRINT) if lines else None
        if found is None:
            assert not has_work(tmp_path)
            continue
        found.add(fill(tmp_path, 3))
        found.close()
        assert again(tmp_path) == [*range(lines), 3], length


def test_a_damaged_line_costs_its_unit_alone(tmp_path, journal):
    path = tmp_path / RECEIPTS
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    assert again(tmp_path) == [0, 2]


@pytest.mark.parametrize("what", ["gone", "short", "another bit"])
def test_a_slot_that_is_not_what_its_receipt_says_is_not_kept(tmp_path, journal, what):
    path = slot(tmp_path, "u1")
    data = bytearray(path.read_bytes())
    data[7] ^= what == "another bit"
    path.write_bytes(data[: len(data) - (what == "short")])
    if what == "gone":
        path.unlink()
    assert again(tmp_path) == [0, 2]


def test_a_unit_that_means_something_else_now_is_not_kept(journal):
    assert journal.kept(Unit(name="u1", size=2, facts={"first": 3})) is None
    assert journal.kept(Unit(name="u1", size=3, facts={"first": 2})) is None
    assert journal.kept(Unit(name="u1", size=2, facts={"first": 2}, hints={"key": 9})) is not None


def test_another_fingerprint_is_refused_and_the_difference_named(tmp_path, journal):
    with pytest.raises(ConfigError, match=r"another setting crf \(18 then, 20 now\).*--restart"):
        Journal(tmp_path, PRINT | {"setting": {"crf": 20, "codec": None}})
    assert again(tmp_path) == [0, 1, 2]


def test_a_look_at_another_fingerprint_refuses_it_and_writes_nothing(tmp_path, journal):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = PRINT | {"input": {"bytes": 4}}
    with pytest.raises(ConfigError, match=r"another input bytes \(3 then, 4 now\).*--restart"):
        check(tmp_path, other)
    check(tmp_path, PRINT)
    check(tmp_path / "new", other)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_nothing_is_finished_another_fingerprint_begins_anew(tmp_path):
    Journal(tmp_path, PRINT).close()
    Journal(tmp_path, {"input": {"bytes": 4}}).close()
    assert json.loads((tmp_path / "fingerprint.json").read_text()) == {"input": {"bytes": 4}}


def test_a_restart_changes_nothing_before_its_first_receipt(tmp_path, journal):
    other = PRINT | {"input": {"bytes": 4}}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    anew = Journal(tmp_path, other, restart=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    anew.add(fill(tmp_path, 1))
    anew.close()
    check(tmp_path, other)
    assert [is_outdated(each) for each in receipts(tmp_path)] == [True, False, True]
    now = Journal(tmp_path, other)
    assert [now.kept(unit(number)) is not None for number in range(3)] == [False, True, False]
    now.close()


def test_a_restart_that_is_cut_short_leaves_receipts_under_one_fingerprint(
    tmp_path, journal, monkeypatch
):
    """Those of the old job are outdated by then, and so are not taken for the new one's."""
    made, replace, moved = fill(tmp_path, 1), os.replace, []

    def once(part, to):
        if to.name == FINGERPRINT:
            raise KeyboardInterrupt
        moved.append(to.name)
        replace(part, to)

    monkeypatch.setattr(os, "replace", once)
    anew = Journal(tmp_path, PRINT | {"input": {"bytes": 4}}, restart=True)
    with pytest.raises(KeyboardInterrupt):
        anew.add(made)
    monkeypatch.undo()
    assert moved == [RECEIPTS]
    check(tmp_path, PRINT)
    assert all(map(is_outdated, receipts(tmp_path)))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (PRINT, None),
        (PRINT | {"input": {"bytes": 4}}, "input bytes (3 then, 4 now)"),
        ({"input": PRINT["input"]}, "setting ({'crf': 18, 'codec': None} then, none now)"),
        (PRINT | {"new": 1}, "new (none then, 1 now)"),
    ],
)
def test_the_first_difference_is_said_in_words(now, words):
    assert difference(PRINT, now) == words


def test_an_input_is_told_from_another_by_its_ends_and_its_time(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(bytes(3 * 2**20))
    before = identity(path)
    assert identity(path) == before
    for at in (0, 3 * 2**20 - 1):
        data = bytearray(path.read_bytes())
        data[at] = 1
        path.write_bytes(data)
        assert identity(path)["ends"] != before["ends"]
        before = identity(path)
    assert identity(path)["bytes"] == 3 * 2**20


@pytest.mark.parametrize("name", [RECEIPTS, FINGERPRINT])
def test_a_journal_that_cannot_be_read_is_no_empty_one(journal, tmp_path, name):
    """What it says is finished was taken for files of others, and its receipts were removed."""
    journal.close()
    whole = (tmp_path / RECEIPTS).read_bytes()
    kept = (tmp_path / name).rename(tmp_path / "kept")
    (tmp_path / name).mkdir()
    with pytest.raises(TargetError, match=r"cannot be read: Is a directory; it says what is"):
        Journal(tmp_path, PRINT)
    (tmp_path / name).rmdir()
    kept.rename(tmp_path / name)
    assert (tmp_path / RECEIPTS).read_bytes() == whole


@pytest.mark.parametrize("torn", [None, b"", b"\0" * 9, b'{"input": {"by', b"\xff\xfe"])
def test_a_damaged_fingerprint_is_told_and_costs_no_receipt(journal, tmp_path, torn):
    """It was taken for a job in which nothing is finished, and all receipts were removed."""
    journal.close()
    path, before = tmp_path / FINGERPRINT, receipts(tmp_path)
    path.unlink()
    if torn is not None:
        path.write_bytes(torn)
    for look in (check, Journal):
        with pytest.raises(TargetError, match=r"fingerprint.json is damaged.*--restart"):
            look(tmp_path, PRINT)
    assert receipts(tmp_path) == before
    Journal(tmp_path, PRINT, restart=True).close()
    assert receipts(tmp_path) == before
