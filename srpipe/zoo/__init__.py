"""The weights that come with srpipe, and how to find others."""

from srpipe.zoo.entry import (
    Entry,
    Loaded,
    called,
    entries,
    find,
    is_file,
    load,
    made_for,
    scales,
    shortest,
)
from srpipe.zoo.store import (
    SHIPPED,
    STAGES,
    Card,
    cards,
    network_name,
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
    "called",
    "cards",
    "entries",
    "find",
    "is_file",
    "load",
    "made_for",
    "network_name",
    "scales",
    "shortest",
    "store",
    "tensors",
    "verify",
]
