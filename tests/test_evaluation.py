import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from video_files import make

from srpipe import show
from srpipe.datasets import Pictures
from srpipe.errors import ConfigError, MediaError, PixelError, TargetError
from srpipe.evaluation import Evaluation, Row, check_target, evaluate, reduced, tally
from srpipe.figures import METRICS
from srpipe.resample import enlarge, low_resolution
from srpipe.settings import EvalSettings

PSNR = {"psnr_rgb": METRICS["psnr_rgb"]}


def draw(path, size=(50, 67), seed=0):
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (9, 13, 3), dtype=np.uint8)
    small = Image.fromarray(noise)
    small.resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """A folder of two pictures whose sides are no multiples of anything."""
    for seed in range(2):
        draw(tmp_path / "data" / f"{seed}.png", seed=seed)
    return tmp_path / "data"


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_truth_itself_is_perfect_and_bicubic_is_not(data, scale):
    truths = [s.truth for s in reduced(Pictures.at(data), scale, {})]
    assert truths[0].shape[-2:] == (50 // scale * scale, 67 // scale * scale)
    answers = iter(truths)
    ways = {"truth": lambda _low: next(answers), "bicubic": partial(enlarge, scale=scale)}
    rows = {r.method: r for r in tally("d", reduced(Pictures.at(data), scale, ways), METRICS)}
    assert rows["truth"].values == {
        "psnr_y": float("inf"),
        "ssim_y": 1,
        "psnr_rgb": float("inf"),
        "ssim_rgb": 1,
        "color_shift": 0,
        "gradient_l1": 0,
    }
    bicubic = rows["bicubic"].values
    assert 10 < bicubic["psnr_rgb"] < bicubic["psnr_y"] < 60
    assert bicubic["ssim_y"] < 1
    assert bicubic["gradient_l1"] > 0
    assert (rows["bicubic"].scale, list(rows["bicubic"].pictures)) == (scale, ["0.png", "1.png"])


def test_input_and_result_are_rounded_to_8_bits(data):
    seen = []

    def off_levels(low):
        seen.append(low * 255)
        return enlarge(low, 2).clamp(0, 1) + 0.3 / 255

    (one, _) = reduced(Pictures.at(data), 2, {"m": off_levels})
    for levels in (seen[0], one.images["m"] * 255):
        assert torch.allclose(levels, levels.round(), atol=1e-4)


@pytest.mark.parametrize("codec", [{"jpeg": 20}, {"h264": 40}])
def test_what_is_reduced_may_be_encoded_before_it_is_enlarged(data, codec):
    clean = evaluate([data], EvalSettings(model=("rdam",), scale=2))
    spoilt = evaluate([data], EvalSettings(model=("rdam",), scale=2, **codec))
    for before, after in zip(clean.rows, spoilt.rows, strict=True):
        assert after.method == before.method
        assert after.values["psnr_y"] < before.values["psnr_y"] - 0.5
    assert clean.protocol != spoilt.protocol
    assert str(*codec.values()) in spoilt.protocol


def test_a_video_is_encoded_as_one_and_each_picture_by_itself(tmp_path, data, monkeypatch):
    calls = []

    def counted(lows, factor):
        calls.append([factor, 0])
        for low in lows:
            calls[-1][1] += 1
            yield low

    monkeypatch.setattr("srpipe.codecs.h264", counted)
    clip = make(tmp_path / "clip.mp4", times=[0, 40, 80])
    evaluate([clip, data], EvalSettings(model=("rdam",), scale=2, h264=30))
    assert calls == [[30, 3], [30, 1], [30, 1]]


def test_each_frame_that_was_encoded_is_compared_with_its_own_truth(tmp_path):
    """Hardly anything is lost at a factor of 1, and every frame of the clip is another."""
    clip = make(tmp_path / "clip.mp4")
    clean, coded = (
        evaluate([clip], EvalSettings(model=("rdam",), scale=2, h264=factor)).rows[0]
        for factor in (None, 1)
    )
    for name, found in coded.pictures.items():
        assert found["psnr_y"] == pytest.approx(clean.pictures[name]["psnr_y"], abs=1)


def test_a_picture_is_reported_when_it_is_measured_and_not_when_it_is_read(tmp_path, monkeypatch):
    """An encoder takes many pictures before it gives the first."""
    clip, events = make(tmp_path / "clip.mp4"), []

    def reading(truth, scale):
        events.append("read")
        return low_resolution(truth, scale)

    monkeypatch.setattr("srpipe.evaluation.low_resolution", reading)
    settings = EvalSettings(model=("rdam",), scale=2, h264=30)
    evaluate([clip], settings, report=lambda _name, done, _of: events.append(done))
    assert events == [0, *["read"] * 12, *range(1, 13)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"h264": 0}, "1 to 51"),
        ({"jpeg": 100}, "1 to 95"),
        ({"h264": 20, "jpeg": 50}, "encoded once"),
    ],
)
def test_a_codec_that_there_is_not_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvalSettings(model=("rdam",), **settings)


def test_a_result_that_exists_is_not_encoded(data):
    with pytest.raises(ConfigError, match="--model"):
        evaluate([data, data], EvalSettings(h264=20))


def test_the_mean_is_of_decibels_over_pictures_and_a_border_is_left_out(data):
    """An error in the border alone counts only where the border does."""

    def framed(low):
        image = enlarge(low, 2)
        image[..., :2, :] = 0
        return image

    samples = list(reduced(Pictures.at(data), 2, {"plain": partial(enlarge, scale=2), "m": framed}))
    default = {row.method: row for row in tally("d", samples, PSNR)}
    assert default["m"].values == default["plain"].values
    whole = {row.method: row for row in tally("d", samples, PSNR, border=1)}
    assert whole["m"].values["psnr_rgb"] < whole["plain"].values["psnr_rgb"] - 3
    each = [figures["psnr_rgb"] for figures in default["m"].pictures.values()]
    assert default["m"].values["psnr_rgb"] == pytest.approx(sum(each) / 2, abs=1e-4)


def test_a_picture_smaller_than_the_window_is_named(tmp_path):
    draw(tmp_path / "small" / "tiny.png", size=(14, 40))
    samples = reduced(Pictures.at(tmp_path / "small"), 2, {"m": partial(enlarge, scale=2)})
    with pytest.raises(PixelError, match=r"tiny\.png without a border of 2 px: .* 11 px"):
        tally("d", samples, METRICS)


def test_models_stand_beside_bicubic_at_each_place_on_the_dial(data, toy):
    found = evaluate([data, data], EvalSettings(model=("toy",), weights=toy))
    assert [(r.data, r.method, r.model, r.perception) for r in found.rows[:3]] == [
        ("data", "bicubic", None, None),
        ("data", "toy-lite-x2, fidelity", "toy-lite-x2", 0),
        ("data", "toy-lite-x2, perception", "toy-lite-x2", 1),
    ]
    assert [r.method for r in found.rows[3:]] == [r.method for r in found.rows[:3]]
    assert found.rows[1].values["color_shift"] < 0.5
    assert found.rows[2].values["color_shift"] > 20  # half as bright
    (half,) = evaluate([data], EvalSettings(model=("toy",), weights=toy, perception=(0.5,))).rows[
        1:
    ]
    assert half.method == "toy-lite-x2, perception 0.5"
    for part in ("a border of `scale` px left out", "MATLAB's bicubic", "Networks in fp32 on cpu"):
        assert part in found.protocol


def test_a_clip_of_full_size_shows_the_flicker_too(tmp_path, toy):
    clip = make(tmp_path / "v.mkv", codec="ffv1", fmt="bgr0", times=[0, 40, 80])
    found = evaluate([clip], EvalSettings(model=("toy",), weights=toy, perception=(0.0,)))
    bicubic, model = found.rows
    assert list(model.pictures) == ["frame 1", "frame 2", "frame 3"]
    assert {"flicker", "flicker_coarse", "still"} <= set(model.values)
    assert "| flicker ↓ |" in found.markdown()
    assert bicubic.values["still"] == model.values["still"]


def test_a_result_is_compared_with_its_truth_and_with_bicubic(tmp_path):
    truth, low, made = (tmp_path / name for name in ("truth", "low", "made"))
    draw(truth / "a.png")
    (sample,) = reduced(Pictures.at(truth), 4, {"half": lambda x: enlarge(x, 4) / 2})
    for folder, name, x in [(low, "ax4", sample.low), (made, "a_m_x4", sample.images["half"])]:
        folder.mkdir()
        pixels = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{name}.png")
    found = evaluate([made, truth], EvalSettings(input=low))
    assert [(r.data, r.method, r.scale) for r in found.rows] == [
        ("truth", "made", 4),
        ("truth", "bicubic", 4),
    ]
    (wanted,) = tally("d", [sample], METRICS)
    assert found.rows[0].values == pytest.approx(wanted.values, abs=1e-4)
    assert found.rows[1].values["psnr_y"] > found.rows[0].values["psnr_y"] + 3
    (alone,) = evaluate([made, truth], EvalSettings()).rows  # no input: no border, no bicubic
    (edge,) = evaluate([made, truth], EvalSettings(border=4)).rows
    assert alone.scale is None
    assert alone.values != edge.values == found.rows[0].values
    (itself,) = evaluate([truth / "a.png", truth / "a.png"], EvalSettings()).rows
    assert itself.values["psnr_y"] == float("inf")


def test_results_of_another_size_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", size=(42, 67))
    with pytest.raises(PixelError, match="the result is 67 x 42 px and the truth 67 x 50"):
        evaluate([tmp_path / "b.png", tmp_path / "a.png"], EvalSettings())
    with pytest.raises(PixelError, match="compare pictures of one size"):
        evaluate([tmp_path / "a.png", tmp_path / "b.png"], EvalSettings())


def test_a_result_called_bicubic_stays_beside_the_bicubic_column(tmp_path):
    draw(tmp_path / "low" / "a.png", size=(25, 33))
    draw(tmp_path / "bicubic" / "a.png", size=(50, 66), seed=1)
    found = evaluate(
        [tmp_path / "bicubic", tmp_path / "bicubic"], EvalSettings(input=tmp_path / "low")
    )
    assert [row.method for row in found.rows] == [f"{tmp_path.name}/bicubic", "bicubic"]


def test_a_result_of_another_shape_than_its_input_is_refused(tmp_path):
    draw(tmp_path / "a.png", size=(64, 64))
    draw(tmp_path / "b.png", size=(40, 64))
    with pytest.raises(PixelError, match=r"a\.png: the result is 64 x 64 px and its input 64 x 40"):
        evaluate([tmp_path / "a.png"] * 2, EvalSettings(input=tmp_path / "b.png"))


@pytest.mark.parametrize("size", [(1, 1), (1, 40)])
def test_a_picture_smaller_than_the_scale_is_named(tmp_path, size):
    pictures = Pictures.at(draw(tmp_path / "one.png", size=size))
    with pytest.raises(PixelError, match=rf"one\.png is {size[1]} x 1 px, too small .* 2 times"):
        list(reduced(pictures, 2, {}))


def test_a_picture_smaller_than_a_network_takes_is_named(tmp_path):
    truth = Pictures.at(draw(tmp_path / "tiny.png", size=(14, 40)))
    metric = replace(METRICS["psnr_y"], heading="LPIPS ↓", side_min=16)
    with pytest.raises(
        PixelError, match=r"tiny\.png .* LPIPS takes sides of 16 px or more, not of"
    ):
        tally("d", reduced(truth, 2, {"m": partial(enlarge, scale=2)}), {"lpips": metric})


def test_the_flicker_of_a_video_needs_its_input_and_no_truth(tmp_path):
    rng = np.random.default_rng(0)
    still = rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)
    write = partial(clip, tmp_path)
    low = write("low.mkv", [still] * 4)
    calm = np.repeat(np.repeat(still, 2, 0), 2, 1) // 2 + 60
    steady = write("steady.mkv", [calm] * 4)
    noisy = write("noisy.mkv", [calm + rng.integers(0, 9, calm.shape, np.uint8) for _ in range(4)])
    for result, least, most in [(steady, 0, 0), (noisy, 3, 4)]:
        row, bicubic = evaluate([result], EvalSettings(input=low)).rows
        assert least <= row.values["flicker"] <= most  # 2.58 * sqrt(2), for 0 to 8 alike
        assert row.values["still"] == 1
        assert bicubic.values["flicker"] == 0
        assert "psnr_y" not in row.values
    rows = evaluate([noisy, steady], EvalSettings(input=low)).rows
    assert {"psnr_y", "flicker"} <= set(rows[0].values)
    with pytest.raises(MediaError, match=r"short\.mkv has fewer frames"):
        evaluate([write("short.mkv", [calm] * 3)], EvalSettings(input=low))


def test_a_damaged_video_is_not_compared_and_nothing_is_advised_that_cannot_be_done(tmp_path):
    frames = list(np.random.default_rng(0).integers(0, 255, (6, 16, 20, 3), dtype=np.uint8))
    whole, damaged = clip(tmp_path, "whole.mkv", frames), clip(tmp_path, "damaged.mkv", frames)
    damaged.write_bytes(damaged.read_bytes()[:-1500])
    for paths in ([damaged, whole], [whole, damaged]):
        with pytest.raises(
            MediaError, match=r"damaged\.mkv is damaged after [345] frames"
        ) as error:
            evaluate(paths, EvalSettings())
        assert "truncated" not in show.one_line(error.value)


def clip(folder, name, frames):
    """A video of these RGB pictures, without loss."""
    import av

    with av.open(str(folder / name), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            out.mux(stream.encode(frame.reformat(format="bgr0")))
        out.mux(stream.encode(None))
    return folder / name


def test_what_cannot_be_measured_says_what_to_name(data, toy):
    with pytest.raises(ConfigError, match=r"nothing to compare .* with; name its truth"):
        evaluate([data], EvalSettings())
    with pytest.raises(ConfigError, match="3 paths and no --model"):
        evaluate([data] * 3, EvalSettings())
    with pytest.raises(ConfigError, match="--input belongs to a result"):
        evaluate([data], EvalSettings(model=("toy",), weights=toy, input=data))
    with pytest.raises(ConfigError, match="border of -1 px"):
        EvalSettings(border=-1)


def test_json_holds_what_is_not_finite_as_null_and_markdown_as_it_is(tmp_path):
    row = Row(
        data="d",
        method="m",
        scale=4.0,
        values={"psnr_y": float("inf"), "ssim_y": 0.81131},
        pictures={"a": {"psnr_y": float("inf"), "ssim_y": 0.81131}},
    )
    found = Evaluation(protocol="So.", rows=[row], figures=METRICS)
    assert found.markdown().splitlines() == [
        "| data | scale | method | PSNR-Y ↑ | SSIM-Y ↑ |",
        "|---|---|---|---:|---:|",
        "| d | x4 | m | inf | 0.8113 |",
        "",
        "So.",
    ]
    for name in ("f.json", "f.md"):
        found.write(tmp_path / name)
    assert (tmp_path / "f.md").read_text() == found.markdown() + "\n"
    facts = json.loads((tmp_path / "f.json").read_text(), parse_constant=pytest.fail)
    assert facts["rows"][0]["values"] == {"psnr_y": None, "ssim_y": 0.81131}
    assert facts["rows"][0]["pictures"]["a"]["ssim_y"] == 0.81131


def test_figures_are_written_also_of_a_file_whose_name_is_no_text(tmp_path):
    row = Row(data="d\udcff", method="m", scale=4.0, values={"psnr_y": 30.0}, pictures={})
    Evaluation(protocol="So.", rows=[row], figures=METRICS).write(tmp_path / "f.md")
    written = (tmp_path / "f.md").read_text(encoding="utf-8")
    assert "PSNR-Y ↑" in written
    assert "| d\\udcff | x4 | m | 30.00 |" in written


def test_figures_have_two_formats_and_a_folder_that_is_there(tmp_path):
    check_target(Path("figures.md"))
    with pytest.raises(ConfigError, match=r"\.json or \.md, not as figures\.csv"):
        check_target(tmp_path / "figures.csv")
    with pytest.raises(TargetError, match="does not exist"):
        check_target(tmp_path / "nowhere" / "figures.md")


def test_the_command_prints_writes_and_reports(data, run, toy, tmp_path):
    here = ("--model", "toy", "--weights", str(toy))
    code, out, err = run(str(data), *here, "-o", "f.json", "-o", "f.md", command="eval")
    assert (code, err) == (0, [])
    assert out[0].startswith("| data | scale | method | PSNR-Y ↑ | SSIM-Y ↑ | PSNR-RGB ↑ |")
    assert [line.split(" | ")[2] for line in out[2:5]] == [
        *("bicubic", "toy-lite-x2, fidelity", "toy-lite-x2, perception")
    ]
    assert out[-1].startswith("Truth cropped at the top left to a multiple of the scale")
    assert (tmp_path / "f.md").read_text().splitlines() == out
    code, out, _ = run(str(data), *here, "--json", command="eval")
    assert json.loads("".join(out)) == json.loads((tmp_path / "f.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["d", "-m", "toi"], "there is no model 'toi'"),
        (["d", "-o", "f.csv"], "figures are written as .json or .md"),
        (["d", "--lpips", "alexa"], "LPIPS has no network 'alexa'"),
        (["d", "--lpip", "alex"], "there is no option --lpip; did you mean '--lpips'"),
        (["d", "--border", "x"], "argument --border: invalid int value: 'x'"),
        ([], "the following arguments are required: PATH"),
    ],
)
def test_a_mistake_in_use_is_one_line_and_2(run, words, message):
    code, out, err = run(*words, command="eval")
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith(f"srpipe: error: {message}")
