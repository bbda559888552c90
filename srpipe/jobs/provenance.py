"""Where a result comes from: one record, the same in the file itself and in the report beside it.

It is the same for every run that gives the same result: no clock, no path, no name of a machine.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from srpipe import trust, zoo
from srpipe.jobs.journal import identity
from srpipe.jobs.plan import Plan
from srpipe.jobs.size import Size
from srpipe.jobs.software import versions
from srpipe.pixels import Range
from srpipe.settings import RunSettings

TITLE = "srpipe"
"""What the record is called where a file has names for its notes."""

NOT_TOLD = (
    *("model", "perception", "weights", "device", "allow_truncated", "overwrite", "restart"),
    *("segment", "workers", "scheduler", "report"),
)
"""Settings that are told in other words, or change nothing about the numbers."""


def record(
    plan: Plan,
    *,
    normalisation: str,
    device: str,
    precision: str,
    counts: Mapping[str, int],
    earlier: Any = None,
) -> dict[str, Any]:
    """The record of a result, in plain values.

    Parameters
    ----------
    normalisation : which numbers are 0 and 1 to the network
    counts : numbers of the result that something happened to: "clipped", "invalid", ...
    earlier : the record in the input, where it is a result itself
    """
    told = {"ends": "sha256_of_ends"}  # the first and the last MiB
    facts = {told.get(name, name): fact for name, fact in identity(plan.source).items()}
    facts.pop("modified", None)  # a copy of the input gives the same result
    return record_of(
        plan.settings,
        plan.entry,
        perception=plan.perception,
        sizes=(plan.size, plan.size_after),
        normalisation=normalisation,
        device=device,
        precision=precision,
        source={"name": plan.source.name, **facts, **({"record": earlier} if earlier else {})},
        counts=counts,
    )


def record_of(
    settings: RunSettings,
    entry: zoo.Entry,
    *,
    perception: float | None,
    sizes: tuple[Size | None, Size | None],
    normalisation: str,
    device: str,
    precision: str,
    source: Mapping[str, Any],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """The record of a result of whatever was enlarged.

    Parameters
    ----------
    sizes : height and width, before and after
    source : what is told of the input
    """
    return {
        "contains_synthesised_detail": True,
        "software": versions(),
        "model": _model(entry, perception),
        "scale": entry.scale,
        "size_before": sizes[0],
        "size_after": sizes[1],
        "kernel": trust.KERNEL,
        "normalisation": normalisation,
        "tiles": {
            "side": settings.tile,
            "halo": entry.halo,
            "joined": ("crop" if entry.exact else "hann")
            if settings.blend == "auto"
            else settings.blend,
        },
        "device": device,
        "precision": precision,
        "input": dict(source),
        "settings": asked(settings),
        "counts": dict(counts),
    }


def between(ends: Range) -> str:
    """Which numbers are 0 and 1 to the network, in words."""
    return f"{ends.low:.17g} to {ends.high:.17g} are 0 to 1"


def text(found: Mapping[str, Any]) -> str:
    """A record as one line of JSON in ASCII, which any format can hold."""
    return json.dumps(found)


def earlier(note: str | None) -> Any:
    """The record in a note that an input carries; None where it is none of srpipe's."""
    try:
        return json.loads(note) if note else None
    except ValueError:  # somebody else's words under the same name
        return None


def asked(settings: RunSettings) -> dict[str, Any]:
    """The settings that decide about the numbers and are not the default."""
    told = {field.name: field.default for field in fields(settings) if field.name not in NOT_TOLD}
    assert MISSING not in told.values()
    chosen = {name: getattr(settings, name) for name in told}
    return {name: value for name, value in chosen.items() if value != told[name]}


def _model(entry: zoo.Entry, perception: float | None) -> dict[str, Any]:
    """Which weights, whose they are, and what they were trained on."""
    cards = [entry.cards[stage] for stage in _used(entry, perception)]
    files = {file: digest for card in cards for file, digest in card.files.items()}
    return {
        "name": entry.name,
        "perception": perception,
        "weights_sha256": files or dict(entry.files),
        "licence": sorted({card.licence for card in cards}) or "unknown",
        "trained_on": sorted({_data(card) for card in cards}) or "unknown",
    }


def _used(entry: zoo.Entry, perception: float | None) -> list[str]:
    """The stages whose weights are in the network at this place on the dial."""
    if perception is None:
        return []
    shares = zip(zoo.STAGES, (1 - perception, perception), strict=True)
    return [stage for stage, share in shares if share > 0]


def _data(card: zoo.Card) -> str:
    """What a card says of its training data."""
    data = card.training.get("recipe", {}).get("data", {})
    return str(data.get("about") or "not told")
