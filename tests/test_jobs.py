import errno
import json
import os
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
import video_files as clips
from PIL import Image, PngImagePlugin

from srpipe import jobs
from srpipe.errors import Cancelled, ConfigError, DeviceError, MediaError, TargetError
from srpipe.io import image, xmp
from srpipe.io.video import VideoSource
from srpipe.jobs import job
from srpipe.jobs.enlarge import Enlarger
from srpipe.jobs.journal import Journal
from srpipe.jobs.target import LOCK, WHOLE, abandon, part_of, published, workplace
from srpipe.jobs.video import VideoWorker
from srpipe.settings import RunSettings


@pytest.fixture
def settings(toy):
    def make(**values):
        return RunSettings(**{"model": "toy", "weights": toy, "perception": 0.0} | values)

    return make


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(noise((9, 7, 3))).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def noise(shape, dtype="uint8"):
    top = np.iinfo(dtype).max
    return np.random.default_rng(3).integers(0, top, shape, dtype=dtype, endpoint=True)


def clip(path, frames=5, size=(32, 48), **options):
    """A video of flat greys, 16 codes apart, at uneven times."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "0", "g": "2"} | options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[0] * 3 // 2, size[1]), 128, np.uint8), format="yuv420p"
            )
            frame.planes[0].update(bytes([40 + 16 * i % 160]) * frame.planes[0].buffer_size)
            frame.pts = i * (i + 1) // 2
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def doubled(pixels):
    return pixels.repeat(2, 0).repeat(2, 1)


def test_a_picture_is_enlarged_beside_itself(picture, settings):
    result = jobs.upscale(picture, settings=settings())
    assert result.target == picture.with_name("in_toy_x2.png")
    assert result.status == "done"
    assert (result.size_before, result.size_after) == ((9, 7), (18, 14))
    assert np.array_equal(pixels_of(result.target), doubled(pixels_of(picture)))
    assert names(picture.parent) == ["in.png", "in_toy_x2.png"]


def test_a_zarr_is_one_image_in_capitals_too(tmp_path):
    (tmp_path / "S5.ZARR").mkdir()
    assert not jobs.is_folder(tmp_path / "S5.ZARR")


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_sixteen_bits_grey_and_alpha_come_through(tmp_path, settings, channels):
    pixels = noise((9, 7, channels), "uint16")
    colour = "rgb" if channels > 2 else "minisblack"
    tifffile.imwrite(
        *(tmp_path / "in.tif", pixels if channels > 1 else pixels[..., 0]),
        photometric=colour,
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
    )
    result = jobs.upscale(tmp_path / "in.tif", settings=settings())
    back = tifffile.imread(result.target).reshape(18, 14, channels)
    assert back.dtype == np.uint16
    colours = max(channels - 1, 1) if channels in (2, 4) else channels
    assert np.array_equal(back[..., :colours], doubled(pixels)[..., :colours])
    if channels in (2, 4):  # bicubic: near the truth, and never a copy of the colours
        mean = back[..., -1].reshape(9, 2, 7, 2).mean((1, 3))
        assert np.corrcoef(mean.ravel(), pixels[..., -1].ravel())[0, 1] > 0.95


def test_opaque_stays_opaque(tmp_path, settings):
    pixels = noise((9, 7, 4))
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "in.png")
    result = jobs.upscale(tmp_path / "in.png", settings=settings())
    assert pixels_of(result.target)[..., 3].min() == 255


def test_perception_is_0_for_tiff_and_1_for_the_rest_unless_asked(tmp_path, settings):
    flat = np.full((4, 4, 3), 200, np.uint8)
    Image.fromarray(flat).save(tmp_path / "in.png")
    tifffile.imwrite(tmp_path / "in.tif", flat, photometric="rgb")
    made = {}
    for name, perception in [("in.png", None), ("in.tif", None), ("in.png", 0.5)]:
        result = jobs.upscale(
            tmp_path / name, settings=settings(perception=perception, overwrite=True)
        )
        made[name, perception] = result.perception, pixels_of(result.target).mean()
    assert made == {
        ("in.png", None): (1.0, 100),
        ("in.tif", None): (0.0, 200),
        ("in.png", 0.5): (0.5, 150),
    }


def test_a_video_keeps_its_frames_times_and_greys(tmp_path, settings):
    source = clip(tmp_path / "in.mp4")
    seen = []
    result = jobs.upscale(source, settings=settings(crf=0), report=seen.append)
    assert result.target == tmp_path / "in_toy_x2.mp4"
    assert result.frames == result.checked["frames"] == 5
    before, after = _frames(source), _frames(result.target)
    assert [time for time, _ in after] == [time for time, _ in before]
    for (_, small), (_, large) in zip(before, after, strict=True):
        assert large.shape == (64, 96)
        assert np.abs(large.astype(int) - doubled(small)).max() <= 1
    assert [event.kind for event in (seen[0], seen[-1])] == ["plan", "done"]
    assert seen[-2].facts["done"] == 5
    assert seen[-1].facts["limited_by"] in ("decode", "infer", "encode")
    assert names(tmp_path) == ["in.mp4", "in_toy_x2.mp4"]


def test_an_animation_becomes_webm_and_stays_clear_where_it_is(tmp_path, settings):
    pictures = [Image.new("RGBA", (33, 25), (200, 40 * n, 0, 255)) for n in range(3)]
    for each in pictures:
        each.paste((0, 0, 0, 0), (0, 0, 16, 25))
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], disposal=2)
    result = jobs.upscale(tmp_path / "a.gif", tmp_path / "a.webm", settings(scale=1.5))
    frames = [frame.planes[3] for frame in VideoSource(result.target)]
    assert len(frames) == 3
    assert all(a[:, :20].max() < 16 and a[:, -20:].min() > 240 for a in frames)


def _frames(path):
    with av.open(str(path)) as file:
        return [
            (frame.pts * frame.time_base, frame.to_ndarray(format="gray"))
            for frame in file.decode(video=0)
        ]


def test_the_output_s_name_decides_the_format(picture, settings):
    result = jobs.upscale(picture, picture.with_name("out.webp"), settings())
    assert result.target.read_bytes()[8:12] == b"WEBP"
    assert np.array_equal(pixels_of(result.target), doubled(pixels_of(picture)))


def test_fewer_bits_are_noted(tmp_path, settings):
    tifffile.imwrite(tmp_path / "in.tif", noise((9, 7, 3), "uint16"), photometric="rgb")
    result = jobs.upscale(tmp_path / "in.tif", tmp_path / "out.jpg", settings())
    assert result.notices == ("16 bits per sample become 8 in JPEG",)


def test_what_another_format_has_no_room_for_is_noted(tmp_path, settings):
    about = PngImagePlugin.PngInfo()
    about.add_text("Copyright", "Ann")
    Image.fromarray(noise((9, 7, 3))).save(tmp_path / "in.png", pnginfo=about)
    result = jobs.upscale(tmp_path / "in.png", tmp_path / "out.jpg", settings())
    assert result.notices == ("its text (Copyright) is left out of JPEG",)


def test_an_output_that_exists_is_skipped_and_with_overwrite_replaced(picture, settings):
    target = picture.with_name("in_toy_x2.png")
    target.write_text("precious")
    assert jobs.upscale(picture, settings=settings()).status == "skipped"
    assert target.read_text() == "precious"
    assert jobs.upscale(picture, settings=settings(overwrite=True)).status == "done"
    assert pixels_of(target).shape == (18, 14, 3)


def test_a_folder_with_a_slash_is_made(picture, settings):
    result = jobs.upscale(picture, f"{picture.parent}/new/deep/", settings())
    assert result.target == picture.parent / "new" / "deep" / "in_toy_x2.png"
    assert result.target.exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["a.png", "b.tif", "out/%d.png", "c.mp4"])
def test_a_pipe_or_a_device_is_never_the_output(tmp_path, picture, settings, name, overwrite):
    pipe = tmp_path / name.partition("/")[0]
    source = clip(tmp_path / "a.mkv", frames=1) if name in ("out/%d.png", "c.mp4") else picture
    before = names(tmp_path)
    os.mkfifo(pipe)
    link = tmp_path / f"device{Path(name).suffix}"
    link.symlink_to(os.devnull)
    for target in (tmp_path / name, link) if "/" not in name else (tmp_path / name,):
        with pytest.raises(TargetError, match="is a pipe or a device, and no file; name a file"):
            jobs.upscale(source, target, settings(overwrite=overwrite))
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert names(tmp_path) == sorted([*before, pipe.name, link.name])


def test_nothing_is_published_over_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a")
    with pytest.raises(TargetError, match="is a pipe or a device"), published(tmp_path / "a"):
        raise AssertionError
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("link", ["hard", "soft", "self"])
def test_the_input_is_never_the_output(picture, settings, link):
    target = picture if link == "self" else picture.with_name("other.png")
    if link == "hard":
        target.hardlink_to(picture)
    if link == "soft":
        target.symlink_to(picture)
    before = picture.read_bytes()
    with pytest.raises(ConfigError, match="is the input itself"):
        jobs.upscale(picture, target, settings(overwrite=True))
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("b.avi", {}, "videos are not written as .avi"),
        ("b.mp4", {"codec": "nosuch"}, "there is no video encoder nosuch"),
        ("b.webm", {"codec": "libx264"}, "a .webm file holds no video of the encoder libx264"),
        ("b.mp4", {"options": (("presett", "fast"),)}, "no option presett"),
        ("b.mp4", {"scale": 1e12}, "libx264 holds sides of up to 16384 px"),
        ("b.mp4", {"size": "999999999x999999999"}, "libx264 holds sides of up to 16384 px"),
    ],
)
def test_a_plan_refuses_what_the_run_would(tmp_path, settings, name, values, words):
    path = clip(tmp_path / "a.mp4", frames=1)
    with pytest.raises(ConfigError, match=words):
        jobs.plan(path, tmp_path / name, settings(**values))
    assert names(tmp_path) == ["a.mp4"]


def test_a_plan_refuses_a_colour_matrix_that_is_not_handled(tmp_path, settings):
    path = clips.make(tmp_path / "a.mkv", codec="ffv1", times=[0], colorspace=10)
    with pytest.raises(ConfigError, match="constant luminance"):
        jobs.plan(path, None, settings())


def test_a_plan_says_what_the_output_leaves_out(tmp_path, settings):
    planned = jobs.plan(clips.prores(tmp_path), tmp_path / "b.mp4", settings(codec="libx264"))
    assert any("transparency is not kept" in notice for notice in planned.notices)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_frames_that_would_fall_on_one_time_are_refused_before_any_work(
    tmp_path, settings, suffix, monkeypatch
):
    times = [0, 1000, 1400, 2400]
    path = clips.make(tmp_path / "a.mp4", times=times, base=Fraction(1, 10**6), movie=10**6)
    target = tmp_path / f"b{suffix}"
    if suffix == ".mp4":
        jobs.upscale(path, target, settings=settings())
        assert [t for _, t, _ in clips.pictures(target)] == [Fraction(t, 10**6) for t in times]
        return
    monkeypatch.setattr(VideoWorker, "frames", None)
    monkeypatch.setattr(sys.modules["srpipe.jobs.plan"], "near", lambda *_: False)
    with pytest.raises(TargetError, match=r"frame 2 of .* 400 µs after .* to 1000 µs; .*\.mp4"):
        jobs.upscale(path, target, settings=settings())
    assert names(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("options", [{"preset": "ultrafast"}, {"bf": "2", "b-pyramid": "none"}])
def test_a_plan_finds_frames_that_would_fall_on_one_time(tmp_path, settings, options):
    times = [0, 1000, 2000, 3000, 4000, 4400, 5000, 6000]
    base = Fraction(1, 10**6)
    path = clips.make(tmp_path / "a.mp4", times=times, base=base, movie=10**6, options=options)
    with pytest.raises(TargetError, match=r"frame 5 of .* 400 µs after .* to 1000 µs; .*\.mp4"):
        jobs.plan(path, tmp_path / "b.mkv", settings())
    assert jobs.plan(path, tmp_path / "b.mp4", settings()).frames == 8


def test_a_plan_reads_no_packets_where_frames_are_far_apart(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(sys.modules["srpipe.jobs.plan"], "by_packets", None)
    path = clips.make(tmp_path / "a.mp4", base=Fraction(1, 90000), times=range(0, 9000, 90))
    assert jobs.plan(path, tmp_path / "b.mkv", settings()).frames == 100


@pytest.mark.parametrize(
    ("values", "option"),
    [({"codec": "nosuch"}, "codec"), ({"rate": "30"}, "rate"), ({"crf": 9}, "crf"),
     ({"pix_fmt": "gray"}, "pix-fmt"), ({"options": (("preset", "slow"),)}, "options")],
)  # fmt: skip
def test_a_setting_of_videos_is_refused_for_a_picture_alone(picture, settings, values, option):
    with pytest.raises(ConfigError, match=f"in.png is no video, so --{option} says nothing"):
        jobs.plan(picture, None, settings(**values))
    jobs.plan(picture, None, settings(**values), alone=False)
    jobs.plan(picture, f"{picture.parent}/out/a.png", settings(**values), make_folders=True)


def test_a_rate_is_refused_for_a_video_with_times_of_its_own(tmp_path, settings):
    path = clip(tmp_path / "a.mp4", frames=1)
    with pytest.raises(ConfigError, match=r"a\.mp4 has times of its own, so --rate says nothing"):
        jobs.plan(path, None, settings(rate="50"))
    jobs.plan(path, None, settings(rate="50"), alone=False)


def test_cancelling_leaves_nothing(tmp_path, picture, settings):
    clip(tmp_path / "in.mp4", frames=40)
    stop = threading.Event()

    def at_once(event):
        if event.kind == "progress":
            stop.set()

    with pytest.raises(Cancelled):
        jobs.upscale(tmp_path / "in.mp4", settings=settings(), report=at_once, cancelled=stop)
    with pytest.raises(Cancelled):
        jobs.upscale(picture, settings=settings(), cancelled=stop)
    assert names(tmp_path) == ["in.mp4", "in.png"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # nobody may close it, then
def test_a_sink_is_not_aborted_while_it_writes(tmp_path, settings, monkeypatch):
    clip(tmp_path / "in.mp4")
    release, stop, aborted = threading.Event(), threading.Event(), []

    def slow(self, frame):
        stop.set()
        release.wait(20)

    monkeypatch.setattr(jobs.video.PieceSink, "write", slow)
    monkeypatch.setattr(jobs.video.PieceSink, "abort", lambda self: aborted.append(self))
    with pytest.raises(Cancelled):
        jobs.upscale(tmp_path / "in.mp4", settings=settings(), cancelled=stop)
    assert aborted == []
    assert names(tmp_path) == ["in.mp4"]
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("srpipe-"):
            thread.join()


def test_one_engine_loads_the_network_once(tmp_path, picture, settings, monkeypatch):
    loads = []
    load = jobs.engine.zoo.load
    monkeypatch.setattr(
        jobs.engine.zoo, "load", lambda *a, **k: loads.append(k["perception"]) or load(*a, **k)
    )
    engine, stop = jobs.Engine(), threading.Event()
    for name, perception in [("1.png", 0), ("2.png", 0), ("3.png", 1), ("4.png", 1)]:
        plan = jobs.plan(picture, tmp_path / name, settings(perception=perception))
        jobs.run(plan, engine, cancelled=stop)
    assert loads == [0, 1]


def test_wide_samples_are_computed_in_fp32_and_low_precision_needs_proof(settings, toy):
    engine = jobs.Engine()
    for bits in (8, 16, 32):
        assert engine.upscaler(settings(), perception=0, bits=bits).precision == "fp32"
    asked = engine.upscaler(settings(precision="bf16"), perception=0, bits=16)
    assert asked.precision == "bf16"


# --- published ---------------------------------------------------------------------------------


def test_a_result_appears_whole(tmp_path):
    target = tmp_path / "a.bin"
    target.write_text("old")
    with published(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, Cancelled])
def test_a_failure_leaves_the_old_result_and_nothing_else(tmp_path, error):
    target = tmp_path / "new" / "folder" / "a.bin"
    with pytest.raises(error), published(target) as part:  # noqa: PT012
        part.write_text("half")
        raise error("no")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_what_the_disk_refuses_is_a_target_error(tmp_path, code):
    refused = pytest.raises(TargetError, match=os.strerror(code))
    with refused, published(tmp_path / "a") as part:
        part.write_text("half")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_two_runs_do_not_write_one_file(tmp_path):
    with published(tmp_path / "a") as part:
        part.write_text("first")
        with pytest.raises(TargetError, match="another run"), published(tmp_path / "a"):
            pass
    assert (tmp_path / "a").read_text() == "first"


def test_what_a_killed_run_left_is_in_nobody_s_way(tmp_path):
    (tmp_path / "a.part").mkdir()
    (tmp_path / "a.part" / LOCK).write_text("")
    (tmp_path / "a.part" / WHOLE).write_text("left by kill -9, and longer than the next result")
    with published(tmp_path / "a") as part:
        part.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_a_file_of_the_user_s_is_no_part_and_stays(tmp_path, picture, settings):
    mine = tmp_path / "a.png.part"
    mine.write_text("precious")
    with pytest.raises(TargetError, match=r"a\.png\.part is in the way, a file that"):
        jobs.plan(picture, tmp_path / "a.png", settings())
    target = tmp_path / "a.png"
    for place in (published(target), workplace(target, restart=True)):
        with pytest.raises(TargetError, match=r"in the way, a file that .* rename it"), place:
            pass
    assert not abandon(mine)
    assert mine.read_text() == "precious"


def test_an_input_that_is_named_like_its_result_s_part_stays(picture, settings):
    source = picture.rename(picture.with_name("a.png.part"))
    held = source.read_bytes()
    with pytest.raises(TargetError, match="in the way"):
        jobs.upscale(source, source.with_name("a.png"), settings())
    assert source.read_bytes() == held


def leave_unfinished(target):
    """A job of another kind that was cut off at the place of a picture."""
    part_of(target).mkdir(parents=True)
    journal = Journal(part_of(target), {"input": "of another kind"})
    journal.add(job.Receipt(unit="u0", digest="", size=1, checksum="", bytes=1, seconds=1.0))
    journal.close()


def test_a_picture_does_not_take_the_place_of_an_unfinished_job(tmp_path):
    leave_unfinished(tmp_path / "a")
    with pytest.raises(TargetError, match="in the way"), published(tmp_path / "a"):
        pass
    assert names(tmp_path) == ["a.part"]


@pytest.mark.parametrize("restart", [False, True])
def test_where_a_picture_is_in_the_way_of_an_unfinished_job_what_is_advised_works(
    tmp_path, picture, settings, restart
):
    """--restart was advised, and refused."""
    target = tmp_path / "a.png"
    leave_unfinished(target)
    if restart:
        jobs.upscale(picture, target, settings(restart=True))
        assert names(tmp_path) == ["a.png", "in.png"]
    else:
        with pytest.raises(ConfigError, match=r"holds a job with another .* or --restart"):
            jobs.upscale(picture, target, settings())
        assert names(tmp_path) == ["a.png.part", "in.png"]


def test_a_folder_of_the_user_s_is_no_job_s_and_stays(tmp_path):
    mine = tmp_path / "a.part"
    mine.mkdir()
    (mine / "notes.txt").write_text("precious")
    for place in (published(tmp_path / "a"), workplace(tmp_path / "a", restart=True)):
        with pytest.raises(TargetError, match=r"in the way, .* rename it, or change -o"), place:
            pass
    assert not abandon(mine)
    assert (mine / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("left", [(), ("lock",), ("fingerprint.json", "00000000-00000004.part")])
def test_a_folder_that_a_killed_job_left_is_taken_again(tmp_path, left):
    (tmp_path / "a.part").mkdir()
    for name in left:
        (tmp_path / "a.part" / name).write_text("left")
    with workplace(tmp_path / "a", restart=False) as folder:
        (folder / WHOLE).write_text("new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_a_picture_that_is_no_tiff_is_refused_a_raster_s_name(picture, settings, ending):
    refused = (
        "only TIFF goes into OME-TIFF or OME-Zarr, not PNG; convert it to TIFF first, or end -o"
    )
    with pytest.raises(ConfigError, match=refused):
        jobs.upscale(picture, picture.with_name(f"out{ending}"), settings())
    assert names(picture.parent) == ["in.png"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("report", [True, False])
def test_an_opaque_picture_becomes_a_webp(tmp_path, settings, mode, report):
    source = Image.fromarray(noise((9, 7, 3))).convert(mode)
    source.save(tmp_path / "in.png")
    result = jobs.upscale(tmp_path / "in.png", tmp_path / "a.webp", settings(report=report))
    expected = doubled(np.array(source.convert("RGB")))
    assert np.array_equal(pixels_of(result.target), expected)
    Image.fromarray(expected).convert("RGBA").save(tmp_path / "in.webp", lossless=True)
    assert jobs.upscale(tmp_path / "in.webp", settings=settings()).status == "done"


def test_a_density_beyond_jpeg_s_is_noted(tmp_path, settings):
    Image.fromarray(noise((9, 7, 3))).save(tmp_path / "in.jpg", dpi=(40000, 40000))
    result = jobs.upscale(tmp_path / "in.jpg", settings=settings())
    assert result.notices == ("JPEG has no room for 80000 pixels per inch, which are left out",)


def test_motion_jpeg_keeps_all_its_frames(tmp_path, settings):
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(tmp_path / "in.jpg")
    one = (tmp_path / "in.jpg").read_bytes()
    (tmp_path / "in.mjpeg").write_bytes(4 * one)
    result = jobs.upscale(tmp_path / "in.mjpeg", settings=settings())
    assert (result.target.name, result.frames) == ("in_toy_x2.mkv", 4)


def test_memory_is_given_back_after_each_unit_failed_or_not(monkeypatch):
    said = []
    monkeypatch.setattr(job, "give_back_freed_memory", lambda: said.append("given back"))

    def make(unit, cancelled):
        said.append(unit.name)
        if unit.name == "b":
            raise MediaError("damaged")

    units = [job.Unit(name, 1, {}) for name in "abc"]
    job.one_by_one(make, units, done=lambda receipt: None, cancelled=threading.Event())
    assert said == ["a", "given back", "b", "given back", "c", "given back"]


@pytest.mark.parametrize("stage", ["_laid_out", "write", "verify"])
def test_memory_that_runs_out_for_a_picture_is_told_in_one_line(
    picture, settings, monkeypatch, stage
):
    """It was a traceback, but for the network's."""

    def full(*_):
        raise MemoryError("Unable to allocate 2.00 GiB")

    place = Enlarger if stage == "_laid_out" else image
    with monkeypatch.context() as patch:
        patch.setattr(place, stage, full)
        with pytest.raises(
            DeviceError, match=r"at .*in\.png \(Unable to allocate 2\.00 GiB\); free"
        ):
            jobs.upscale(picture, None, settings())
    assert names(picture.parent) == ["in.png"]
    jobs.upscale(picture, None, settings())


def test_a_card_that_is_passed_over_is_told(picture, settings, monkeypatch):
    module = sys.modules["srpipe.jobs.plan"]  # the package has the function by that name
    monkeypatch.setattr(module, "passed_over", lambda: ("cuda:0 is not used",))
    for kind in ("auto", "cpu"):
        planned = jobs.plan(picture, None, settings(device=kind))
        assert ("cuda:0 is not used" in planned.notices) == (kind == "auto")


def test_a_note_of_somebody_else_under_the_records_name_is_no_record(tmp_path, settings):
    for words in (b"hello", b"\xff"):
        packet = xmp.noted(None, "WORDS").replace(b"WORDS", words)
        Image.fromarray(noise((9, 7, 3))).save(tmp_path / "in.jpg", xmp=packet)
        result = jobs.upscale(tmp_path / "in.jpg", None, settings(overwrite=True))
        with Image.open(result.target) as image:
            record = json.loads(xmp.note_in(image.info["xmp"]))
        assert "record" not in record["input"]
