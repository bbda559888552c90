"""What a user should know of a network before it runs, as a few lines of rich text."""

from html import escape

from srpipe import trust
from srpipe.zoo import Entry


def card(entry: Entry) -> str:
    """What a network is, what it was trained on, and under which licence."""
    if not entry.cards:
        architecture = escape(entry.about.get("architecture", "a network"))
        return f"{architecture}, {_count(entry.parameters)} parameters. Nobody says what from."
    last = entry.cards[entry.stages[-1]]
    recipe = last.training.get("recipe", {})
    about = recipe.get("data", {}).get("about") if isinstance(recipe, dict) else None
    trained = f"Trained on {about}." if about else "Its card does not say what it was trained on."
    return (
        f"<small><b>{escape(last.family.upper())}</b>, {_count(entry.parameters)} parameters,"
        f" {escape(last.licence)}. For {last.source} pictures. {escape(trained)}</small>"
    )


def dial(entry: Entry, perception: float) -> str:
    """What the place on the dial means, and the warning where there is one.

    Nothing is known of a network that others trained.
    """
    if not entry.stages:
        return ""
    if perception == 0:
        return "<small>Fidelity weights, trained to be right in every pixel.</small>"
    start = "Perception weights" if perception == 1 else f"{perception:.0%} towards perception"
    return f"<small>{start}: <b>{escape(trust.warning(perception) or '')}.</b></small>"


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"
