"""How far a run is, and what share of its learning rates it has come to."""

import math
import time
from typing import Any

from training.recipe import Schedule


class Clock:
    """Steps and seconds of a run, over all times that it was gone on with."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.steps, self.seconds, self.stopped = 0, 0.0, False
        self.taken = 0.0  # the share of the learning rates that the last step had
        self._tick = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether no step is to come, at least for now."""
        return self.stopped or self.progress == 1

    @property
    def progress(self) -> float:
        """How much of the run is over, 0 to 1: the larger of its iterations and its time."""
        budget = self.schedule.time_budget_s
        spent = self.seconds / budget if budget else 0.0
        return min(1.0, max(self.steps / self.schedule.iterations, spent))

    @property
    def share(self) -> float:
        """Of the learning rates, for the next step.

        A rate that is halved after some iterations is halved sooner where the time budget ends
        the run sooner, by the same share of the run.
        """
        schedule, over = self.schedule, self.progress
        warm = min(1.0, (self.steps + 1) / max(1, schedule.warmup))
        if schedule.halve_every or schedule.halve_at:
            step = over * schedule.iterations
            halved = sum(step >= at for at in schedule.halve_at)
            if schedule.halve_every:
                halved += int(step // schedule.halve_every)
            return warm * 0.5**halved
        fallen = 0.5 * (1 + math.cos(math.pi * over))
        return warm * (schedule.floor + (1 - schedule.floor) * fallen)

    @property
    def remaining_s(self) -> float:
        """Seconds until the end, if it goes on as it did."""
        return self.seconds / self.progress * (1 - self.progress) if self.progress else math.inf

    def lap(self) -> float:
        """Seconds since the last lap, or since the clock was made."""
        now = time.monotonic()
        lap, self._tick = now - self._tick, now
        return lap

    def advance(self, lap: float, *, stop: bool) -> None:
        """One step more, which took this many seconds; it may be the last for now."""
        self.taken = self.share
        self.steps, self.seconds, self.stopped = self.steps + 1, self.seconds + lap, stop

    def state_dict(self) -> dict[str, Any]:
        """What the clock shows."""
        return {"steps": self.steps, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a clock showed."""
        self.steps, self.seconds = state["steps"], state["seconds"]


class Every:
    """True when it is asked for the first time after so many seconds, and again after as many."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._last = seconds, time.monotonic()

    def __call__(self) -> bool:
        """Whether it is time."""
        now = time.monotonic()
        due = now - self._last >= self.seconds
        self._last = now if due else self._last
        return due
