"""The table of all shipped weights, from their cards.

``python tests/weights_table.py`` writes it into the README.
"""

import itertools

import counts
import readme

from srpipe import zoo
from srpipe.models import MODELS

DATA = ("Set5", "Set14")


def table():
    """The table in Markdown, with bicubic before the weights of each scale and source."""
    cards = sorted(zoo.cards(), key=lambda card: (*_group(card), card.name, card.stage))
    heads = [f"{data} {figure}" for data in DATA for figure in ("PSNR / SSIM", "LPIPS")]
    lines = [
        _line("", "parameters", "MMAC", *heads, "trained"),
        "|---|" + "---:|" * (len(heads) + 2) + "---|\n",
    ]
    for (scale, source), group in itertools.groupby(cards, _group):
        first, *others = group
        name = f"bicubic x{scale}" + (", compressed" if source == "compressed" else "")
        lines.append(_line(name, "", "", *_figures(first, "bicubic"), ""))
        lines += map(_row, (first, *others))
    return "".join(lines)


def _group(card):
    return card.scale, card.source


def _row(card):
    runs = runs_of(card.training["spent"])
    steps, minutes = (sum(run[key] for run in runs) for key in ("steps", "seconds"))

    def build():
        return MODELS[card.family].build(scale=card.scale, **card.options)

    return _line(
        f"`{card.name}` {card.stage}",
        f"{card.parameters:,}".replace(",", " "),
        f"{counts.macs_per_pixel(build):.2f}",
        *_figures(card, "values"),
        f"{steps} steps, {minutes / 60:.0f} min, {runs[0]['device']}",
    )


def runs_of(spent):
    """What was spent in all runs that led to some weights, the last one first, each once.

    Of weights in a sum some have the same ones before them.
    """
    runs = []
    for run in _runs(spent):
        if run not in runs:
            runs.append(run)
    return runs


def _runs(spent):
    if spent and "sum" not in spent:
        yield spent
        yield from _runs(spent.get("before"))
    for each in (spent or {}).get("sum", ()):
        yield from _runs(each)


def _figures(card, whose):
    for data in DATA:
        found = card.metrics[whose][data]
        yield f"{found['psnr_y']:.2f} / {found['ssim_y']:.4f}"
        yield f"{found['lpips_squeeze']:.4f}"


def _line(*cells):
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    readme.write("weights", table())
