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
    run_example("compare.py")(str(tmp_path / "sheet.png"))
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


@pytest.mark.weights
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    run_example("make_clip.py")(str(tmp_path / "clip.mp4"))
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        exec(compile(code, "README.md", "exec"), {})
    assert "24" in capsys.readouterr().out
    assert (tmp_path / "clip_eagcl_x4.mp4").exists()
