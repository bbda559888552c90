import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from srpipe.errors import ConfigError
from srpipe.settings import EvalSettings, RunSettings, add_options, from_mapping, from_options


def parse(*words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, RunSettings, {"model": "-m", "options": "-e"})
    return from_options(RunSettings, parser.parse_args(words))


def test_no_option_gives_the_defaults():
    assert parse() == RunSettings()


def test_every_setting_is_an_option_with_help():
    parser = argparse.ArgumentParser()
    add_options(parser, RunSettings)
    actions = {action.dest: action for action in parser._actions}
    for field in dataclasses.fields(RunSettings):
        assert actions[field.name].help, field.name
        assert f"--{field.name.replace('_', '-')}" in actions[field.name].option_strings
    assert "eagcl" in parser.format_help()


def test_words_become_values_of_the_setting_s_type(tmp_path):
    settings = parse(
        *("-m", "rdam", "--scale", "2", "--perception", "0.25", "--tile", "96", "--crf", "20"),
        *("--weights", str(tmp_path), "--allow-truncated", "-e", "preset=slow", "-e", "x=a=b"),
    )
    assert settings == RunSettings(
        model="rdam",
        scale=2,
        perception=0.25,
        tile=96,
        crf=20,
        weights=tmp_path,
        allow_truncated=True,
        options=(("preset", "slow"), ("x", "a=b")),
    )
    assert parse("--tile", "auto").tile == "auto"


@pytest.mark.parametrize(
    "words", [("--tile", "small"), ("-e", "slow"), ("--blend", "soft"), ("--scale", "two")]
)
def test_a_word_that_is_no_value_is_a_usage_error(words):
    with pytest.raises(argparse.ArgumentError, match=words[1]):
        parse(*words)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 0}, "scale of 0"),
        ({"scale": float("nan")}, "scale of nan"),
        ({"size": "3840"}, "'3840' is no size; write width and height, such as 3840x2160"),
        ({"size": "0x5"}, "'0x5' is no size"),
        ({"size": "8x6", "scale": 2.5}, "give one of them"),
        ({"deinterlace": "of"}, "did you mean 'off'"),
        ({"dedupe": "near"}, "there are exact, off"),
        ({"rate": "0"}, "'0' is no rate; write one such as 24"),
        ({"rate": "fast"}, "'fast' is no rate"),
        ({"rate": "1e12"}, "1e12 pictures per second are too many; 1000000 are the most"),
        ({"range": "0,1e-300"}, "'0,1e-300' is no range; .* than float32 holds"),
        ({"range": "-1.7e308,1.7e308"}, "is no range"),
        ({"perception": 1.5}, "perception 1.5"),
        ({"perception": float("nan")}, "perception nan"),
        ({"tile": 0}, "tile of 0"),
        ({"crf": 64}, "crf 64"),
        ({"blend": "hnn"}, "did you mean 'hann'"),
        ({"precision": "double"}, "there are auto, fp32, bf16, fp16"),
    ],
)
def test_a_value_out_of_reach_is_one_line_that_says_what_to_do(values, message):
    with pytest.raises(ConfigError, match=message) as raised:
        from_mapping(RunSettings, values)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "values", "wanted"),
    [
        (RunSettings, {"weights": "/a/b"}, Path("/a/b")),
        (RunSettings, {"model": Path("/a/b.pth")}, "/a/b.pth"),
        (RunSettings, {"device": torch.device("cuda:1")}, "cuda:1"),
        (RunSettings, {"options": [["preset", "slow"]]}, (("preset", "slow"),)),
        (RunSettings, {"options": {"preset": "slow"}}, (("preset", "slow"),)),
        (RunSettings, {"tile": np.int64(96)}, 96),
        (RunSettings, {"scale": np.float32(2)}, 2.0),
        (RunSettings, {"weights": None}, None),
        (EvalSettings, {"perception": [0, 1]}, (0.0, 1.0)),
    ],
)
def test_a_value_that_means_the_same_is_taken_for_it(settings, values, wanted):
    (name,) = values
    found = getattr(from_mapping(settings, values), name)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": "2"}, "scale takes a number or None, not '2'"),
        ({"scale": True}, "scale takes a number or None, not True"),
        ({"perception": "0.5"}, "perception takes a number or None, not '0.5'"),
        ({"tile": "64"}, "tile takes a whole number or 'auto', not '64'"),
        ({"tile": 64.5}, "tile takes a whole number or 'auto', not 64.5"),
        ({"range": (0, 4095)}, r"range takes text or None \(LO,HI\), not \(0, 4095\)"),
        ({"bands": [0, 1, 2]}, r"bands takes text or None .*, not \[0, 1, 2\]"),
        ({"weights": 3}, "weights takes a path or None, not 3"),
        ({"options": {"crf": 18}}, "options takes pairs of a name and a text, not {'crf': 18}"),
        ({"options": "preset=slow"}, "options takes pairs of a name and a text"),
        ({"device": 0}, "device takes text, not 0"),
        ({"model": None}, "model takes text, not None"),
        ({"ensemble": 1}, "ensemble takes True or False, not 1"),
        ({"consistency": True}, "consistency takes 'off' or 'project', not True"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_the_setting_takes(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(RunSettings, values)


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no setting 'persepton'; did you mean 'perception'"):
        from_mapping(RunSettings, {"persepton": 1})
