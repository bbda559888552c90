"""Runs that go on while one looks: threads, growing layers, and what is told of them.

Only the main thread touches layers. A run writes its tiles into an array, and a timer has napari
look at it again.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, QTimer

from napari_sr.layers import looking, lying, place_of, record_in
from srpipe.errors import Cancelled, SrpipeError

if TYPE_CHECKING:
    from napari_sr.run import Began, Outcome, Plan, Wish
    from napari_sr.views import Map

REFRESH_MS = 350
"""Between two looks at a growing result: less than three a second."""


@dataclass(frozen=True)
class Failed:
    """What a thread comes back with if something is in the way, in one line.

    An error that is raised in a thread is a bug for napari, which shows all of it.
    """

    text: str


@dataclass(eq=False)
class Made:
    """A result, and what it was made of.

    Parameters
    ----------
    began : what the run began with
    done : tiles that are there
    outcome : how the run ended; None while it goes on, and where it failed
    maps : layers that were made from it, by name
    """

    wish: "Wish"
    plan: "Plan"
    source: Any
    layer: Any
    began: "Began"
    done: int = 0
    outcome: "Outcome | None" = None
    maps: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the input and the result."""
        return [self.source.name, self.layer.name]

    @property
    def every(self) -> list[str]:
        """Of those, and of all maps."""
        return [*self.names, *(layer.name for layer in self.maps.values())]


@dataclass(eq=False)
class _Task:
    """What a thread is to do.

    Parameters
    ----------
    make : does it, given what to ask whether to stop; yields news
    heard : takes the news, in the main thread
    ended : takes what came of it, in the main thread; None where it failed
    outcome : what `make` returned
    """

    make: Callable[[Callable[[], bool]], Generator[Any, None, Any]]
    heard: Callable[[Any], None]
    ended: Callable[[Any], None]
    outcome: Any = None


class Live:
    """One run at a time, in a thread; its layers grow in the viewer.

    Parameters
    ----------
    owner : with whose end runs end, and that of the dock it is in
    told : called with a line for the user
    changed : called when a run begins or ends
    """

    def __init__(
        self,
        viewer: Any,
        owner: QObject,
        told: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._viewer, self._told, self._changed = viewer, told, changed
        self._worker: Any = None
        self._task: _Task | None = None
        self._stop = Event()
        self._engine: Any = None
        self._now: Made | None = None
        self._fresh = False  # whether there are tiles that napari has not looked at
        self._began = 0.0
        self.made: list[Made] = []
        self._timer = QTimer(owner)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._look)
        owner.destroyed.connect(self._leave)
        _Closed(owner, self.stop)
        viewer.layers.events.removed.connect(self._forget)

    @property
    def busy(self) -> bool:
        """Whether something runs."""
        return self._worker is not None

    def stop(self) -> None:
        """End what runs, within a tile."""
        self._stop.set()
        if self.busy:
            self._told("Stopping after this tile …")

    def result(self, source: Any) -> Made | None:
        """The selected result, or the last one of this layer, or the last one there is."""
        active = self._viewer.layers.selection.active
        for fits in (
            lambda made: made.layer == active,
            lambda made: made.source == source,
            lambda made: True,
        ):
            found = [made for made in self.made if fits(made)]
            if found:
                return found[-1]
        return None

    def run(self, wish: "Wish", plan: "Plan", source: Any) -> None:
        """Enlarge part of a layer."""
        from napari_sr.run import Began, run

        engine = self._ready_engine()

        def heard(news: Any) -> None:
            if isinstance(news, Began):
                self._add(Made(wish, plan, source, None, news))
            elif self._now:
                self._now.done, self._fresh = news.done, True
                self._told(self._pace(news.done, news.of))

        task = _Task(lambda asked: run(wish, plan, engine, asked), heard, self._end)
        self._start(task, total=len(plan.cells) + 1, title=f"Enlarging {source.name}")
        self._told("Loading the network …")

    def maps(
        self, made: Made, make: "Callable[[Any, Callable[[], bool]], Iterator[Map]]", title: str
    ) -> None:
        """Add layers to a result, or renew those of the same name.

        Parameters
        ----------
        make : gives them one by one, given the engine and what to ask whether to stop
        """
        from napari_sr.views import Map

        engine = self._ready_engine()

        def heard(news: Any) -> None:
            if made not in self.made:  # the user took the result away
                self._stop.set()
            elif isinstance(news, Map):
                self._show(made, news)
            else:
                self._told(f"{title}: {news}")

        def ended(_: Any) -> None:
            self._told(f"{title}: stopped" if self._stop.is_set() else f"{title}: done")

        self._start(_Task(lambda asked: _plain(make(engine, asked)), heard, ended), 0, title)
        self._told(f"{title} …")

    def _ready_engine(self) -> Any:
        from srpipe.jobs.engine import Engine

        self._engine = self._engine or Engine()
        return self._engine

    def _start(self, task: "_Task", total: int, title: str) -> None:
        self._stop.clear()
        self._task = task
        self._began = time.monotonic()
        # napari never lets go of a worker, nor the worker of these functions
        self._worker = create_worker(
            self._work,
            _start_thread=False,
            _progress={"total": total, "desc": title},
            _connect={
                "yielded": self._heard,
                "returned": self._returned,
                "finished": self._finished,
            },
        )
        self._worker.start()
        self._timer.start()
        self._changed()

    def _asked(self) -> bool:
        """Whether to stop."""
        worker = self._worker
        return self._stop.is_set() or (worker is not None and worker.abort_requested)

    def _work(self) -> Generator[Any, None, Any]:
        """What the thread does."""
        assert self._task
        try:
            return (yield from self._task.make(self._asked))
        except (SrpipeError, OSError) as error:
            return Failed(str(error))
        except RuntimeError as error:  # superqt ends with it in silence: it may be Qt's own
            return Failed(f"{type(error).__name__}: {error}")

    def _heard(self, news: Any) -> None:
        if self._task is None:
            return
        try:
            self._task.heard(news)
        except Exception:
            self._stop.set()
            raise

    def _returned(self, outcome: Any) -> None:
        if self._task:
            self._task.outcome = outcome

    def _finished(self) -> None:
        task, self._task, self._worker = self._task, None, None
        if task is None:
            return
        self._timer.stop()
        found = task.outcome
        if isinstance(found, Failed):
            self._stop.set()
            self._told("")
            show_error(found.text)
            found = None
        task.ended(found)
        self._changed()

    def _leave(self) -> None:
        """The form is gone, and with it whoever would be told."""
        self._stop.set()
        self._task = None

    def _add(self, made: Made) -> None:
        """Show an empty result, as its input is shown and where it lies."""
        wish, scale, source = made.wish, made.plan.scale, made.source
        factors = [1] * (len(wish.box.shape) - 2) + [scale, scale]
        place = place_of(source).part(wish.box.start, factors)
        made.layer = self._viewer.add_image(
            made.began.keep.data,
            name=f"{source.name} x{scale}",
            rgb=wish.stack.rgb,
            multiscale=made.began.keep.multiscale,
            metadata=_origin(source) | {"srpipe": _facts(made)},
            **looking(source),
            **lying(source, place),
        )
        self._now = made
        self.made.append(made)
        self._began = time.monotonic()

    def _look(self) -> None:
        """Have napari draw the tiles that have come since the last look."""
        if self._now is None or not self._fresh:
            return
        if self._now.layer not in self._viewer.layers:  # the user took it away
            self._stop.set()
            return
        self._fresh = False
        self._now.layer.refresh()

    def _end(self, outcome: "Outcome | None") -> None:
        """A run is over; what it did not reach is marked."""
        made, self._now = self._now, None
        if made is None:
            self._told("Stopped." if self._stop.is_set() else "")
            return
        made.outcome = outcome
        if made.layer not in self._viewer.layers:
            self._told("Stopped.")
            return
        of = len(made.plan.cells)
        complete = made.done == of
        if not complete:
            made.layer.name = f"{made.layer.name} (partial: {made.done} of {of} tiles)"
        if made.began.keep.multiscale:
            made.layer.data = made.began.keep.finished()
        made.layer.metadata = _origin(made.source) | {"srpipe": _facts(made)}
        made.layer.refresh()
        seconds = time.monotonic() - self._began
        self._told(_summary(made, seconds) if complete else f"Stopped: {made.done} of {of} tiles.")

    def _forget(self) -> None:
        """Hold no longer what the user took away."""
        layers = self._viewer.layers
        self.made = [made for made in self.made if made.layer in layers]
        for made in self.made:
            made.maps = {name: layer for name, layer in made.maps.items() if layer in layers}

    def _show(self, made: Made, found: "Map") -> None:
        """Add a map as a layer of its own, or renew the one that is there."""
        from napari_sr.placing import place_known

        base = made.source if found.coarse else made.layer
        place = place_of(base).part(found.start, [1] * len(found.start))
        where = lying(base, place)
        if found.name in made.maps:
            self._viewer.layers.remove(made.maps[found.name])
        name = f"{made.layer.name}: {found.name}"
        add = self._viewer.add_labels if found.labels else self._viewer.add_image
        metadata = place_known(made.source.metadata) | found.facts
        layer = add(found.data, name=name, metadata=metadata, **found.look, **where)
        layer.visible = found.shown
        made.maps[found.name] = layer

    def _pace(self, done: int, of: int) -> str:
        seconds = (time.monotonic() - self._began) / done * (of - done)
        return (
            f"Tile {done} of {of}, {_time(seconds)} left" if done < of else f"Tile {done} of {of}"
        )


class _Closed(QObject):
    """Tells when a widget is taken out of its dock: napari keeps it, out of sight."""

    def __init__(self, widget: QObject, told: Callable[[], None]) -> None:
        super().__init__(widget)
        self._told = told
        widget.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802 - Qt's name
        """Look at what Qt tells the widget."""
        if event.type() == QEvent.Type.ParentChange and watched.parent() is None:
            self._told()
        return False


def _plain(news: Iterator[Any]) -> Generator[Any, None, None]:
    """The news until there are no more, or until somebody asked to stop."""
    with suppress(Cancelled):
        yield from news


def _origin(layer: Any) -> dict[str, Any]:
    """What a layer knows of the file that it came from."""
    return {key: layer.metadata[key] for key in ("raster", "video") if key in layer.metadata}


def _facts(made: Made) -> dict[str, Any]:
    """What is kept with a result, plain values: how far it is, and where it comes from."""
    from srpipe import zoo
    from srpipe.jobs import provenance

    wish, plan, of = made.wish, made.plan, len(made.plan.cells)
    settings, box = replace(wish.settings, tile=plan.side), wish.box
    (height, width), scale = box.shape[-2:], plan.scale
    part = {} if made.done == of else {"done": made.done, "of": of}
    earlier = record_in(made.source.metadata)
    record = provenance.record_of(
        settings,
        zoo.find(settings.model, scale=settings.scale, folder=settings.weights),
        perception=settings.perception,
        sizes=((height, width), (height * scale, width * scale)),
        normalisation=provenance.between(wish.within),
        device=made.began.device,
        precision=made.began.precision,
        source={"name": made.source.name, "from": list(box.start), "to": list(box.stop)}
        | ({"record": earlier} if earlier else {}),
        counts=asdict(made.outcome.counts) if made.outcome else {},
    )
    record["tiles"] |= part
    return {"complete": not part, "record": record}


def _summary(made: Made, seconds: float) -> str:
    """One line about a run that is over."""
    tiles = len(made.plan.cells)
    text = f"{tiles} tile{'s' * (tiles > 1)} in {_time(seconds)}"
    counts = made.outcome.counts if made.outcome else None
    if counts and counts.clipped:
        text += f"; {counts.clipped:,} numbers clipped at the ends of their type"
    if counts and counts.outside:
        text += f"; {counts.outside:,} of the input beyond the network's range"
    return f"{text}."


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
