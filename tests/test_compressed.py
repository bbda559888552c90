"""Networks for compressed sources: their names, and who is told of them."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import toy
import video_files as clips
from PIL import Image

from srpipe import jobs, zoo
from srpipe.errors import ConfigError, WeightsError
from srpipe.io.video_quantiser import H264
from srpipe.jobs import compressed
from srpipe.models import MODELS
from srpipe.settings import RunSettings

ADVICE = "--model toy-compressed is made for that"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The toy network for clean pictures in two stages, and for compressed ones in the first."""
    monkeypatch.setitem(MODELS, "toy", toy.SPEC)
    folder = toy.install(tmp_path / "weights")
    return toy.install(folder, source="compressed", stages=("fidelity",))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("toy", "toy-lite-x2"),
        ("toy-lite", "toy-lite-x2"),
        ("toy-compressed", "toy-lite-x2-compressed"),
        ("toy-lite-compressed", "toy-lite-x2-compressed"),
        ("toy-lite-x2-compressed", "toy-lite-x2-compressed"),
    ],
)
def test_a_network_is_found_by_its_name_and_its_source(weights, name, found):
    assert zoo.find(name, folder=weights).name == found


def test_each_has_its_own_dial(weights):
    assert zoo.find("toy", folder=weights).stages == ("fidelity", "perception")
    assert zoo.load("toy-compressed", folder=weights).perception == 0
    with pytest.raises(ConfigError, match="toy-lite-x2-compressed has no perception weights"):
        zoo.load("toy-compressed", perception=1, folder=weights)


def test_the_shortest_name_means_the_same_network(weights):
    for entry, name in zip(zoo.entries(weights), ("toy", "toy-compressed"), strict=True):
        assert zoo.shortest(entry) == name


def test_a_card_without_a_source_is_for_clean_pictures(weights):
    path = weights / "toy-lite-x2-fidelity.json"
    path.write_text(path.read_text().replace('  "source": "clean",\n', ""))
    assert '"source"' not in path.read_text()
    assert zoo.Card.read(path).source == "clean"


def notices(source, weights, **settings):
    given = RunSettings(weights=weights, **{"model": "toy", "device": "cpu", **settings})
    return [each for each in jobs.plan(source, None, given).notices if "made for" in each]


def photograph(path, **options):
    chance = np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize(("quality", "told"), [(40, True), (79, True), (93, False)])
def test_who_enlarges_a_strongly_compressed_jpeg_is_told(tmp_path, weights, quality, told):
    picture = photograph(tmp_path / "a.jpg", quality=quality)
    found = notices(picture, weights)
    assert [each.startswith("JPEG") and ADVICE in each for each in found] == [True] * told


@pytest.mark.parametrize(("qp", "told"), [(35, True), (15, False)])
def test_who_enlarges_a_strongly_compressed_video_is_told(tmp_path, weights, qp, told):
    options = {"qp": str(qp), "x264-params": "ipratio=1:pbratio=1"}
    clip = clips.make(tmp_path / "a.mkv", options=options)
    found = notices(clip, weights)
    told_so = f"H.264 with a quantiser of {qp} (0 to 51)"
    assert [told_so in each and ADVICE in each for each in found] == [True] * told


@pytest.mark.parametrize(("quantiser", "told"), [(9, True), (2, False)])
def test_who_enlarges_a_strongly_compressed_old_video_is_told(tmp_path, weights, quantiser, told):
    options = {"qmin": str(quantiser), "qmax": str(quantiser), "b": "1000000"}
    clip = clips.make(tmp_path / "a.mkv", codec="mpeg4", base=Fraction(1, 25), options=options)
    found = notices(clip, weights)
    told_so = f"MPEG with a quantiser of {quantiser} (1 to 31)"
    assert [told_so in each and ADVICE in each for each in found] == [True] * told


def test_a_scale_of_which_nothing_is_known_is_not_told_of(tmp_path, weights, monkeypatch):
    clip = clips.make(tmp_path / "a.mkv", options={"qp": "40"})
    assert notices(clip, weights)
    monkeypatch.setitem(compressed.QUANTISERS, H264, {3: 20})
    assert not notices(clip, weights)


def test_nobody_else_is_told(tmp_path, weights):
    picture = photograph(tmp_path / "a.jpg", quality=30)
    assert not notices(photograph(tmp_path / "a.png"), weights)
    assert not notices(picture, weights, model="toy-compressed")
    alone = weights / "toy-lite-x2-fidelity.json"
    assert not notices(picture, None, model=str(alone))  # who names a file knows what it is for
    (weights / "toy-lite-x2-compressed-fidelity.json").unlink()
    assert not notices(picture, weights)


def test_other_weights_of_the_same_size_are_found(weights):
    clean, compressed = zoo.entries(weights)
    assert zoo.made_for("compressed", clean) == compressed
    assert zoo.made_for("clean", compressed) == clean
    assert zoo.made_for("clean", clean) is None
    assert zoo.made_for("compressed", replace(clean, model="a.pth", cards={})) is None


def test_a_folder_is_told_once(tmp_path, weights):
    for number in range(3):
        photograph(tmp_path / "in" / f"{number}.jpg", quality=95 if number == 1 else 40)
    given = RunSettings(weights=weights, model="toy", device="cpu")
    found = jobs.folder.upscale(tmp_path / "in", tmp_path / "out", given)
    assert f"2 of the files are strongly compressed; {ADVICE}" in found.notices


def test_a_network_of_another_family_is_better_than_none(weights, monkeypatch):
    monkeypatch.setitem(MODELS, "game", toy.SPEC)
    path = weights / "toy-lite-x2-fidelity.json"
    other = weights / "game-lite-x2-fidelity.json"
    other.write_text(path.read_text().replace('"family": "toy"', '"family": "game"'))
    entry = zoo.find("game", folder=weights)
    assert zoo.made_for("compressed", entry).name == "toy-lite-x2-compressed"


@pytest.mark.parametrize("source", ["Compressed", None, "a/b"])
def test_an_unknown_source_is_refused(weights, source):
    path = weights / "toy-lite-x2-fidelity.json"
    path.write_text(path.read_text().replace('"clean"', json.dumps(source)))
    with pytest.raises(WeightsError, match="of which this version knows nothing"):
        zoo.entries(weights)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("toy-compressed", "a_toy-compressed_x2.png"),
        ("toy-lite-x2-compressed", "a_toy-lite-compressed_x2.png"),
        ("{folder}/toy-lite-x2-compressed-fidelity.json", "a_toy-lite-compressed_x2.png"),
        ("toy-lite-x2", "a_toy-lite_x2.png"),
    ],
)
def test_a_result_is_named_with_its_scale_once(tmp_path, weights, model, name):
    given = RunSettings(weights=weights, model=model.format(folder=weights), device="cpu")
    assert jobs.plan(photograph(tmp_path / "a.png"), None, given).target.name == name
