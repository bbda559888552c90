"""The weights that come with srpipe, and how to find others."""

from srpipe.zoo.store import (
    SHIPPED,
    STAGES,
    Card,
    Entry,
    Loaded,
    cards,
    entries,
    find,
    load,
    store,
    tensors,
    verify,
)

__all__ = [
    "SHIPPED",
    "STAGES",
    "Card",
    "Entry",
    "Loaded",
    "cards",
    "entries",
    "find",
    "load",
    "store",
    "tensors",
    "verify",
]
