import itertools
import re
import runpy
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[1]


def run_example(name):
    return runpy.run_path(str(ROOT / "examples" / name))["main"]


def test_the_example_clip_has_uneven_times_and_sound(tmp_path, capsys):
    run_example("make_clip.py")(str(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(container.streams.audio) == 1
        times = [frame.pts for frame in container.decode(video=0)]
    gaps = {b - a for a, b in itertools.pairwise(times)}
    assert len(times) == 24
    assert len(gaps) > 1
    assert "24 frames" in capsys.readouterr().out


@pytest.mark.weights
def test_the_comparison_is_drawn(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("stages", "models", "compressed")]
    run_example("compare.py")(*map(str, paths))
    assert all(path.stat().st_size > 10_000 for path in paths)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("numpy_array.py", r"\(24, 32, 3\) uint8 -> \(48, 64, 3\) uint8"),
        ("microscopy_stack.py", r"-> \(2, 2, 1, 48, 64\) uint16"),
        ("dask_array.py", r"dask.array<.*shape=\(128, 128\), dtype=uint16.*: \[\[\d+, \d+\], "),
        ("torch_tensor.py", r"-> \(2, 3, 48, 64\) on cpu"),
        ("training_step.py", r"loss 0\.\d+"),
    ],
)
def test_an_example_runs_on_data_that_it_makes_itself(name, said, capsys):
    run_example(name)()
    assert re.search(said, capsys.readouterr().out)


@pytest.mark.weights
def test_the_example_of_files_enlarges_one_and_a_folder_of_them(tmp_path, capsys):
    run_example("files.py")(str(tmp_path))
    assert {path.name for path in (tmp_path / "larger").glob("*.*g")} == {"a.png", "b.jpg"}
    assert "a_large.png" in capsys.readouterr().out


@pytest.mark.weights
def test_the_example_of_a_report_shows_that_a_projection_agrees(tmp_path, capsys):
    run_example("report.py")(str(tmp_path))
    before, after = (float(x) for x in re.findall(r"([\d.]+) levels", capsys.readouterr().out))
    assert after < 1 < before
    assert (tmp_path / "off.png.report.html").exists()


def test_every_example_is_run_here():
    told = (ROOT / "tests" / "test_examples.py").read_text()
    assert [e.name for e in (ROOT / "examples").glob("*.py") if f'"{e.name}"' not in told] == []


@pytest.mark.weights
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    run_example("make_clip.py")(str(tmp_path / "clip.mp4"))
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        exec(compile(code, "README.md", "exec"), {})
    assert "clip_eagcl_x4.mp4" in capsys.readouterr().out
    assert (tmp_path / "clip_eagcl_x4.mp4").exists()
