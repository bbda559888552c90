"""The report of a result as one page: no file beside it, no script, nothing fetched."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --faint: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
.warning { border-left: 4px solid #d80; background: #d801; padding: .6rem 1rem }
.places { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 }
img { display: block; width: 192px; height: 192px; image-rendering: pixelated; background: #888 }
figcaption { font-size: .85rem; max-width: 192px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--faint) }
th:first-child, td:first-child { text-align: left }
.scroll { overflow-x: auto } p.small { font-size: .85rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
pre { background: var(--soft); padding: 1rem }
"""

COLUMNS = {
    "bias": "bias",
    "gain": "gain",
    "rmse": "RMSE",
    "worst": "worst",
    "added_detail": "added detail",
    "valid": "pixels compared",
    "invalid": "not measured",
}
"""The figures of a band, and what they are called over their column."""

CAPTIONS = {
    "input": "input, pixels repeated",
    "result": "result",
    "added detail": "added detail: result less bicubic input, {times} times as strong, 0 is grey",
    "residual": "residual: degraded result less input, {times} times as strong, 0 is grey",
    "model disagreement": "model disagreement: spread over 8 flips and rotations, {times} times as"
    " strong, 0 is black",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A square of a result as it is shown.

    Parameters
    ----------
    name : which part of the input it is in; empty where there is but one
    rows, columns : of that part's result, from and to
    added : root mean square of the detail that was added here
    disagreement : likewise of the spread of an ensemble
    panels : pictures by what they show, a name in `CAPTIONS`; uint8 (side, side, 1 or 3)
    """

    name: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    added: float
    disagreement: float | None
    panels: Mapping[str, np.ndarray]


def page(facts: Facts, places: Sequence[Place], times: Mapping[str, int]) -> str:
    """The page.

    Parameters
    ----------
    facts : what the JSON file beside it holds
    times : how many times stronger than it is a panel shows what it shows
    """
    title = f"What became of {facts['record']['input']['name']}"
    parts = [
        f"<h1>{escape(facts['result'])}</h1>",
        f"<p>{escape(_opening(facts['record']))}</p>",
        *_warning(facts["warning"]),
        *_places(places, times),
        *_agreement(facts["agreement"]),
        *_lines(facts),
        "<h2>Where it comes from</h2>",
        f"<pre>{escape(json.dumps(facts['record'], indent=2))}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _opening(record: Facts) -> str:
    model, before, after = record["model"], record["size_before"], record["size_after"]
    dial = "" if model["perception"] is None else f", perception {model['perception']:g}"
    sizes = "" if before is None else f": {before[1]} x {before[0]} to {after[1]} x {after[0]} px"
    return (
        f"{record['input']['name']} enlarged by {model['name']}{dial}{sizes}."
        " The result contains synthesised detail."
    )


def _warning(text: str | None) -> Iterator[str]:
    if text:
        yield f'<p class="warning">{escape(text[:1].upper() + text[1:])}.</p>'


def _places(places: Sequence[Place], times: Mapping[str, int]) -> Iterator[str]:
    if not places:
        return
    yield "<h2>Where most was added</h2>"
    for place in places:
        where = f"rows {place.rows[0]} to {place.rows[1]}, columns {place.columns[0]} to "
        where += f"{place.columns[1]} of the result"
        yield f"<p>{escape(', '.join(filter(None, (place.name, where))))}</p>"
        yield '<div class="places">'
        for name, pixels in place.panels.items():
            caption = escape(CAPTIONS[name].format(times=times.get(name)))
            yield f'<figure><img alt="{escape(name)}" src="{_uri(pixels)}">'
            yield f"<figcaption>{caption}</figcaption></figure>"
        yield "</div>"


def _agreement(agreement: Facts) -> Iterator[str]:
    yield "<h2>Agreement with the input</h2>"
    yield (
        f"<p>The result degraded back ({escape(agreement['kernel'])}) and compared with the input;"
        f" {escape(agreement['unit'])}.</p>"
    )
    yield '<div class="scroll"><table><tr><th>band</th>'
    yield "".join(f"<th>{heading}</th>" for heading in COLUMNS.values()) + "</tr>"
    for band in agreement["bands"]:
        cells = "".join(f"<td>{_number(band[name])}</td>" for name in COLUMNS)
        yield f"<tr><td>{escape(band['name'])}</td>{cells}</tr>"
    yield "</table></div>"
    yield (
        '<p class="small">Bias: how much brighter the result is on average. Gain: the slope of the'
        " result over the input. RMSE, worst: of the residual. Added detail: root mean square of"
        " result less bicubic input; that it agrees with the input does not make it true.</p>"
    )


def _lines(facts: Facts) -> Iterator[str]:
    """What is told in a sentence each."""
    lines = [_counts(facts["agreement"], facts["record"]["counts"])]
    if "shift" in facts:
        shift = facts["shift"]
        lines.append(
            f"Shift: {_number(shift['down'])} down, {_number(shift['right'])} right, at most"
            f" {_number(shift['most'])}, in {shift['unit']} (phase correlation)."
        )
    if "flicker" in facts:
        flicker = facts["flicker"]
        lines.append(
            f"Flicker where the input is still: {_number(flicker['total'])}, of it coarse"
            f" {_number(flicker['coarse'])}, in {flicker['unit']}."
        )
    spreads = [place["model_disagreement"] for place in facts["places"]]
    known = [spread for spread in spreads if spread is not None]
    if known:
        lines.append(
            f"Model disagreement in the places shown: {_number(max(known))} at most, root mean"
            " square. It is no uncertainty: all eight may agree and be wrong."
        )
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _counts(agreement: Facts, counts: Facts) -> str:
    found = {"clipped": agreement["clipped"], **counts}
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.items())
    return f"Numbers of the result: {told}."


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _uri(pixels: np.ndarray) -> str:
    """A picture as the page holds it, lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, "WEBP", lossless=True, method=4
    )
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
