"""What is told of a result: in the report beside it, and in the record within it."""

import base64
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import tifffile
from PIL import Image

from srpipe import jobs
from srpipe.errors import TargetError
from srpipe.io import image, xmp
from srpipe.jobs import picture
from srpipe.settings import RunSettings

RECORD = ".//{urn:srpipe:1.0/}record"


@pytest.fixture
def settings(toy):
    def make(**values):
        return RunSettings(**{"model": "toy", "weights": toy, "perception": 0.0} | values)

    return make


def noise(shape, seed=3):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype="uint8", endpoint=True)


def smooth(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + k) * np.cos(y / (6 + k)) for k in range(3)]
    return (127 + 90 * np.stack(waves, -1)).astype(np.uint8)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def clip(path, frames=6, tags=None, size=(32, 48)):
    with av.open(str(path), "w") as file:
        file.metadata.update(tags or {})
        stream = file.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(smooth(*size), format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def report_of(result):
    return json.loads(result.target.with_name(f"{result.target.name}.report.json").read_text())


def page_of(result):
    return result.target.with_name(f"{result.target.name}.report.html").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Page(HTMLParser):
    """The pictures of a page and what it would fetch; every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.fetched, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if tag == "img":
            kind, _, data = facts["src"].partition(",")
            assert kind == "data:image/webp;base64"
            self.pictures.append(np.array(Image.open(io.BytesIO(base64.b64decode(data)))))
        elif tag != "meta":
            self.open.append(tag)
        self.fetched += [facts[name] for name in ("href", "srcset", "action") if name in facts]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# --- the report --------------------------------------------------------------------------------


def test_a_report_is_written_only_where_it_is_wanted(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    jobs.upscale(tmp_path / "in.png", tmp_path / "a.png", settings())
    jobs.upscale(tmp_path / "in.png", tmp_path / "b.png", settings(report=True))
    assert names(tmp_path) == ["a.png", "b.png", "b.png.report.html", "b.png.report.json", "in.png"]


@pytest.mark.parametrize("kind", ["picture", "video", "raster"])
def test_the_report_of_an_earlier_result_does_not_stay_beside_a_new_one(tmp_path, settings, kind):
    if kind == "picture":
        source = saved(tmp_path / "in.png", smooth())
    elif kind == "video":
        source = clip(tmp_path / "in.mp4")
    else:
        source = tmp_path / "in.tif"
        tifffile.imwrite(source, np.stack([smooth()[..., 0]] * 2), photometric="minisblack")
    result = jobs.upscale(source, settings=settings(report=True))
    assert report_of(result)
    jobs.upscale(source, settings=settings(perception=1.0, overwrite=True))
    assert names(tmp_path) == sorted([source.name, result.target.name])


def test_a_name_that_is_no_text_is_told_as_far_as_it_can_be(tmp_path, settings):
    source = saved(tmp_path / "in.png", smooth()).rename(tmp_path / os.fsdecode(b"a\xff.png"))
    result = jobs.upscale(source, settings=settings(report=True))
    assert report_of(result)["result"] == result.target.name
    assert r"a\udcff_toy_x2.png" in page_of(result)


def test_a_picture_of_half_the_brightness_is_told_to_be_one(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    result = jobs.upscale(tmp_path / "in.png", settings=settings(report=True, perception=1.0))
    told = report_of(result)
    assert "bicubic" in told["agreement"]["kernel"]
    assert [band["name"] for band in told["agreement"]["bands"]] == ["red", "green", "blue"]
    for channel, band in enumerate(told["agreement"]["bands"]):
        mean = smooth()[..., channel].mean() / 255
        assert band["bias"] == pytest.approx(-mean / 2, abs=0.003)
        assert band["gain"] == pytest.approx(0.5, abs=0.01)
        assert band["valid"] == 40 * 60
    assert told["shift"]["most"] < 0.05
    assert "not for counting" in told["warning"]


def test_fidelity_comes_without_a_warning(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    result = jobs.upscale(tmp_path / "in.png", settings=settings(report=True))
    assert report_of(result)["warning"] is None
    assert 'class="warning"' not in page_of(result)


def test_the_page_needs_nothing_but_itself_and_names_are_no_markup(tmp_path, settings):
    source = saved(tmp_path / "a<b>&c.png", smooth())
    result = jobs.upscale(source, settings=settings(report=True, perception=1.0))
    text = page_of(result)
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "<script" not in text
    assert "a&lt;b&gt;&amp;c_toy_x2.png" in text
    assert len(text) < 2**20
    assert [each.shape[:2] for each in page.pictures] == [(192, 192)] * 4


def test_the_page_shows_input_result_detail_and_residual(tmp_path, settings):
    """A network that repeats pixels shows the very same twice; half as bright leaves a residual."""
    saved(tmp_path / "in.png", smooth(96, 96))
    same = Page(page_of(jobs.upscale(tmp_path / "in.png", settings=settings(report=True))))
    low, high, detail, residual = same.pictures
    assert np.array_equal(low, high)
    assert detail.std() > 1
    assert abs(residual.mean() - 127.5) < 1
    dark = jobs.upscale(
        tmp_path / "in.png", tmp_path / "b.png", settings(report=True, perception=1.0)
    )
    assert Page(page_of(dark)).pictures[3].mean() < 20


def test_where_most_was_added_is_what_is_shown(tmp_path, settings):
    pixels = np.full((240, 350, 3), 128, np.uint8)
    pixels[200:210, 310:330] = noise((10, 20, 3))
    saved(tmp_path / "in.png", pixels)
    result = jobs.upscale(tmp_path / "in.png", settings=settings(report=True))
    (place,) = report_of(result)["places"]
    assert place["rows"][0] <= 400
    assert place["rows"][1] >= 420
    assert place["columns"][0] <= 620
    assert place["columns"][1] >= 660


def test_an_ensemble_tells_how_far_it_lies_apart(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    result = jobs.upscale(tmp_path / "in.png", settings=settings(report=True, ensemble=True))
    (place,) = report_of(result)["places"]
    assert place["model_disagreement"] == pytest.approx(0, abs=1e-7)  # all eight agree
    assert not Page(page_of(result)).pictures[4].any()
    assert "It is no uncertainty" in page_of(result)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_is_looked_at_as_it_was_written(tmp_path, settings, suffix):
    clip(tmp_path / "in.mp4", frames=20)
    result = jobs.upscale(tmp_path / "in.mp4", tmp_path / f"out{suffix}", settings(report=True))
    told = report_of(result)
    assert told["flicker"]["still"] == 1
    assert told["flicker"]["total"] < 2
    assert {place["name"] for place in told["places"]} <= {f"frame {n}" for n in range(1, 21)}
    assert told["agreement"]["bands"][0]["valid"] == 8 * 32 * 48
    assert abs(told["agreement"]["bands"][1]["bias"]) < 0.01
    assert len(Page(page_of(result)).pictures) == 12


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_short_video_has_a_report_too(tmp_path, settings, frames):
    clip(tmp_path / "in.mp4", frames=frames)
    result = jobs.upscale(tmp_path / "in.mp4", tmp_path / "p" / "%02d.png", settings(report=True))
    told = report_of(result)
    assert ("flicker" in told) == (frames > 1)
    assert names(tmp_path / "p") == [*(f"{n:02}.png" for n in range(1, frames + 1)), "times.txt"]


def test_colours_that_nobody_sees_are_not_compared(tmp_path, settings):
    pixels = np.dstack([smooth(), np.full(smooth().shape[:2], 255, np.uint8)])
    pixels[:, :12] = 0
    saved(tmp_path / "in.png", pixels)
    result = jobs.upscale(tmp_path / "in.png", settings=settings(report=True))
    band = report_of(result)["agreement"]["bands"][0]
    assert band["invalid"] == 12 * len(pixels)
    assert band["worst"] < 0.03


@pytest.mark.parametrize("place", ["tell", "of_frames"])
def test_a_result_that_fails_leaves_no_report(tmp_path, settings, monkeypatch, place):
    saved(tmp_path / "in.png", smooth())

    def broken(*_, **__):
        raise TargetError("no room")

    monkeypatch.setattr(picture, place, broken)
    with pytest.raises(TargetError):
        jobs.upscale(tmp_path / "in.png", settings=settings(report=True))
    assert names(tmp_path) == ["in.png"]


# --- consistency -------------------------------------------------------------------------------


def test_a_projected_picture_agrees_with_its_input(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    rmse = {}
    for way in ("off", "project"):
        wanted = settings(report=True, consistency=way, perception=1.0)
        result = jobs.upscale(tmp_path / "in.png", tmp_path / f"{way}.png", wanted)
        rmse[way] = max(band["rmse"] for band in report_of(result)["agreement"]["bands"])
    assert rmse["off"] > 0.2
    assert rmse["project"] < 0.5 / 255


def test_what_a_picture_cannot_hold_is_counted(tmp_path, settings):
    saved(tmp_path / "in.png", np.where(noise((20, 20)) > 127, 255, 0).astype(np.uint8))
    plain = jobs.upscale(tmp_path / "in.png", tmp_path / "a.png", settings(report=True))
    sharp = jobs.upscale(
        tmp_path / "in.png", tmp_path / "b.png", settings(report=True, consistency="project")
    )
    assert plain.clipped == 0
    assert sharp.clipped > 0
    assert report_of(sharp)["agreement"]["clipped"] == sharp.clipped
    assert report_of(sharp)["record"]["counts"] == {"clipped": sharp.clipped}
    assert f"{sharp.clipped:,} clipped" in page_of(sharp)


def test_a_projected_video_agrees_better_with_its_input(tmp_path, settings):
    clip(tmp_path / "in.mp4", frames=3)
    rmse = {}
    for way in ("off", "project"):
        wanted = settings(report=True, consistency=way, perception=1.0, crf=1)
        result = jobs.upscale(tmp_path / "in.mp4", tmp_path / f"{way}.mp4", wanted)
        rmse[way] = max(band["rmse"] for band in report_of(result)["agreement"]["bands"])
    assert rmse["project"] < rmse["off"] / 10


# --- the record --------------------------------------------------------------------------------


def record_in(path):
    """As a program that knows nothing of srpipe finds it."""
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            packet = file.pages[0].tags[700].value
    else:
        with Image.open(path) as file:
            packet = file.info["xmp"]
    packet = packet if isinstance(packet, bytes) else packet.encode()
    body = re.sub(rb"<\?xpacket.*?\?>", b"", packet)
    return json.loads(ElementTree.fromstring(body).find(RECORD).text)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_picture_says_where_it_comes_from(tmp_path, settings, toy, suffix):
    saved(tmp_path / "in.png", smooth())
    wanted = settings(perception=1.0, consistency="project", report=True)
    result = jobs.upscale(tmp_path / "in.png", tmp_path / f"out{suffix}", wanted)
    record = record_in(result.target)
    assert record == report_of(result)["record"]
    assert record["contains_synthesised_detail"] is True
    ((file, digest),) = record["model"]["weights_sha256"].items()
    assert digest == hashlib.sha256((toy / file).read_bytes()).hexdigest()
    assert file == "toy-lite-x2-perception.safetensors"
    assert record["model"]["licence"] == ["Apache-2.0"]
    assert record["model"]["trained_on"] == ["not told"]
    assert record["input"]["name"] == "in.png"
    assert record["input"]["bytes"] == (tmp_path / "in.png").stat().st_size
    assert record["settings"] == {"consistency": "project"}
    assert record["scale"] == 2
    assert (record["device"], record["precision"]) == ("cpu", "fp32")
    assert record["normalisation"] == "0 to 255 are 0 to 1"
    assert "modified" not in record["input"]


def test_two_runs_give_the_same_bytes(tmp_path, settings):
    saved(tmp_path / "in.png", smooth())
    first, second = (
        jobs.upscale(tmp_path / "in.png", tmp_path / name / "x.png", settings(report=True))
        for name in ("a/", "b/")
        if not (tmp_path / name).mkdir()
    )
    assert first.target.read_bytes() == second.target.read_bytes()
    assert page_of(first) == page_of(second)


def test_what_the_file_said_before_is_still_there(tmp_path, settings):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
        b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
        b' rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator>Ada</dc:creator>'
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    saved(tmp_path / "in.jpg", smooth(), xmp=packet)
    result = jobs.upscale(tmp_path / "in.jpg", settings=settings())
    assert b"<dc:creator>Ada</dc:creator>" in image.read(result.target).metadata.xmp
    assert record_in(result.target)["input"]["name"] == "in.jpg"


def test_a_result_of_a_result_tells_of_both(tmp_path, settings):
    saved(tmp_path / "in.png", smooth(6, 5))
    first = jobs.upscale(tmp_path / "in.png", settings=settings())
    second = jobs.upscale(first.target, settings=settings())
    record = record_in(second.target)
    assert record["input"]["name"] == "in_toy_x2.png"
    assert record["input"]["record"] == record_in(first.target)


@pytest.mark.parametrize("packet", [b"no packet at all", b"<x>" + b" " * 65000 + b"</x>"])
def test_a_packet_that_takes_no_note_stays_as_it_is(tmp_path, settings, packet):
    saved(tmp_path / "in.jpg", smooth(), xmp=packet)
    result = jobs.upscale(tmp_path / "in.jpg", settings=settings())
    assert any("has no room for a record" in notice for notice in result.notices)
    assert image.read(result.target).metadata.xmp == packet


def test_a_note_is_what_was_noted():
    text = '{"a": "<b> & \\"c\\""}'
    packet = xmp.noted(None, text)
    assert xmp.note_in(packet) == text
    assert xmp.note_in(xmp.noted(packet, "other")) == "other"
    assert xmp.noted(packet, "other").count(b"srpipe:record>") == 2
    assert xmp.note_in(None) is None


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("tags", [{}, {"comment": "my own"}])
def test_a_video_says_where_it_comes_from(tmp_path, settings, suffix, tags):
    clip(tmp_path / "in.mp4", tags=tags)
    result = jobs.upscale(tmp_path / "in.mp4", tmp_path / f"out{suffix}", settings())
    with av.open(str(result.target)) as file:
        found = {name.lower(): value for name, value in file.metadata.items()}
    if tags:
        assert found["comment"] == "my own"
    if tags and suffix == ".mov":  # which knows no other tag for it
        assert any("no room for a record" in notice for notice in result.notices)
        return
    record = json.loads(found["description" if tags else "comment"])
    assert record["input"]["name"] == "in.mp4"
    assert record["size_after"] == [64, 96]
    assert record["precision"] == "fp32"


@pytest.mark.parametrize(
    ("name", "perception", "warned"), [("a.tif", 1.0, 1), ("a.tif", 0.0, 0), ("a.png", 1.0, 0)]
)
def test_measured_data_is_warned_of_a_perceptual_model(
    tmp_path, settings, name, perception, warned
):
    saved(tmp_path / name, smooth(8, 8))
    notices = jobs.upscale(tmp_path / name, settings=settings(perception=perception)).notices
    assert sum("not for counting" in notice for notice in notices) == warned
