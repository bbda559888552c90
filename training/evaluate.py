"""Measure weights as ``srpipe eval`` does, and record it in their cards.

python -m training.evaluate Set5/ Set14/ --model eagcl --record
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from srpipe import zoo
from srpipe.device import memory_told
from srpipe.errors import ConfigError, SrpipeError
from srpipe.evaluation import Evaluation, evaluate
from srpipe.settings import EvalSettings, add_options, from_options
from srpipe.show import say, take_any_name, tell


def check_source(card: zoo.Card, settings: EvalSettings) -> None:
    """See that weights are recorded as measured on the pictures that they are for.

    Raises
    ------
    ConfigError
        If they are for compressed pictures and these are not, or the other way round.
    """
    if (card.source == "compressed") != bool(settings.h264 or settings.jpeg):
        other = "use" if card.source == "compressed" else "leave out"
        raise ConfigError(
            f"{card.stem} is for {card.source} pictures, so these figures are not for its card;"
            f" {other} --h264 and --jpeg, or leave out --record"
        )


def cards(entries: Sequence[zoo.Entry], settings: EvalSettings) -> list[tuple[str, zoo.Card]]:
    """Those that figures are recorded in, each with its model's name.

    Raises
    ------
    ConfigError
        If there is none, or its weights are measured on pictures that they are not for.
    """
    found = [(entry.model, card) for entry in entries for card in entry.cards.values()]
    measured = settings.perception or (0, 1)
    found = [(model, card) for model, card in found if zoo.STAGES.index(card.stage) in measured]
    if not found:
        raise ConfigError(
            "there is no card to record figures in: --model names networks of srpipe's own kind,"
            " --perception is 0 or 1; name such, or leave out --record"
        )
    for _model, card in found:
        check_source(card, settings)
    return found


def record(found: Evaluation, model: str, card: zoo.Card) -> Path:
    """Write to a card of a model what was measured of its weights and of bicubic, and how.

    What was measured so before, of other data sets, stays in it.
    """
    stage = zoo.STAGES.index(card.stage)
    rows = [row for row in found.rows if (row.model, row.perception) == (model, stage)]
    beside = [row for row in found.rows if row.model is None and row.scale == card.scale]
    before = card.metrics if card.metrics.get("protocol") == found.protocol else {}
    values = {row.data: _finite(row.values) for row in rows}
    bicubic = {row.data: _finite(row.values) for row in beside}
    metrics = {
        "protocol": found.protocol,
        "values": {**before.get("values", {}), **values},
        "bicubic": {**before.get("bicubic", {}), **bicubic},
    }
    return replace(card, metrics=metrics).write()


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Those that JSON has numbers for."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def main(argv: list[str] | None = None) -> int:
    """Read the command line, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a data set")
    parser.add_argument("--record", action="store_true", help="write the figures to the cards")
    add_options(parser, EvalSettings, {"model": "-m", "scale": "-s"})
    args = parser.parse_args(argv)
    take_any_name()
    try:
        settings = from_options(EvalSettings, args)
        entries = [
            zoo.find(name, scale=settings.scale, folder=settings.weights)
            for name in (settings.model if args.record else ())
        ]
        chosen = cards(entries, settings) if args.record else []
        with memory_told("the pictures that are measured"):
            found = evaluate(args.paths, settings)
        try:
            written = [record(found, model, card) for model, card in chosen]
        finally:
            say(found.markdown())
        for path in written:
            say(f"recorded in {path}")
    except SrpipeError as error:
        tell(f"training.evaluate: error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        tell("training.evaluate: error: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
