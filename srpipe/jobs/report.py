"""What a job tells its caller: events while it runs, and a result."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["plan", "progress", "done", "skipped", "failed"]
Status = Literal["done", "skipped", "truncated"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to one input; `facts` are plain values that JSON can hold."""

    kind: Kind
    source: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The event as one flat object."""
        return {"event": self.kind, "source": str(self.source), **self.facts}


Report = Callable[[Event], None]


def unheard(event: Event) -> None:
    """Report to nobody."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one input.

    Parameters
    ----------
    status : "done"; "skipped", since the output was there; or "truncated", which is done up to
        the damage in the input
    frames : how many were written
    size_before, size_after : height and width
    seconds, fps : of the work itself, without loading weights
    limited_by : the stage that worked longest: decode, infer or encode
    perception : 0 is fidelity, 1 is perception; None where the network has no such dial
    recomputed : batches that were not finite in low precision and were computed again
    repeated : frames that equalled the one before them and were not computed
    clipped : samples that came out beyond what the result can hold, and were brought to its limit
    numbers : of a raster: which are 0 and 1 to the network, which bands it sees together, and to
        how many something happened; see `srpipe.blocks.Counts`
    notices : what a user should know
    checked : what was found in the written file when it was read back
    """

    source: Path
    target: Path
    status: Status
    model: str
    scale: int
    perception: float | None
    frames: int = 0
    size_before: tuple[int, int] | None = None
    size_after: tuple[int, int] | None = None
    seconds: float = 0
    fps: float = 0
    limited_by: str | None = None
    device: str | None = None
    precision: str | None = None
    recomputed: int = 0
    repeated: int = 0
    clipped: int = 0
    numbers: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    checked: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result with paths as text."""
        return asdict(self) | {"source": str(self.source), "target": str(self.target)}
