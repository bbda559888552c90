"""Many workers on one job, by Dask: processes of this machine, or those of a cluster.

A worker opens the input and the network itself, once, and writes its own slots; what passes through
the scheduler is a unit on the way there and a receipt on the way back. The input, the weights and
the job's folder must be where all workers can see them. Nothing here knows what a unit is.

One process does without all this: a plain loop needs no scheduler, keeps its pipeline filled from
one unit into the next, starts 0.6 s earlier, and has the network in its first thread, where it is
fastest (see `srpipe.stream`).
"""

import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager, suppress
from traceback import format_exc
from typing import Any

import torch

from srpipe.device import KEEP_FREED, memory_told
from srpipe.errors import Cancelled, ConfigError, DeviceError, SrpipeError
from srpipe.jobs.engine import Engine
from srpipe.jobs.job import OF_ONE_UNIT, Advance, Done, Outcome, Receipt, Unit, Work, Worker
from srpipe.jobs.software import check, software

IN_FLIGHT = 2
"""Units a worker has: one that it does, and one so that it does not wait for the next."""

_KILLS = 1  # times that a worker may die with a unit and the unit is tried again, twice over
_LOOK_S = 0.1  # between two looks at the caller's wish to cancel
_TELL_S = 0.5  # between two words of a worker on how far it is
_ENVIRON = "distributed.nanny.pre-spawn-environ"
_UNTOLD = "ignore:resource_tracker:UserWarning"
"""Python's own process that removes the semaphores of one that ends at Ctrl-C need not tell."""

_WAIT_S = 30  # for a scheduler, and for its first worker
_ALONE_S = 600  # without a worker, where one that died begins anew at once
_DESERTED_S = 3600  # without one of a cluster's, which may have to wait for their turn
_AWAY = "365 days"
"""Until Dask gives up a worker that died and has not begun anew; it would close the new one too, in
the midst of a unit if that is when it looks."""


def performed(
    work: Work,
    units: Sequence[Unit],
    *,
    engine: Engine,
    workers: int | None,
    scheduler: str | None,
    done: Done,
    advance: Advance,
    cancelled: threading.Event,
) -> Outcome:
    """Do units here, with the network that `engine` keeps, or spread them if workers are named.

    Raises
    ------
    SrpipeError
        As `spread` does, and what is not the fault of one unit.
    """
    told: Any = {"done": done, "advance": advance, "cancelled": cancelled}
    if not units:
        return Outcome()
    if workers or scheduler:
        torch.cuda.empty_cache()  # which the statistics of the whole have left; it is theirs now
        return spread(work, units, workers=workers, scheduler=scheduler, **told)
    with closing(work.begun(engine)) as worker:
        return worker.perform(units, **told)


def spread(
    work: Work,
    units: Sequence[Unit],
    *,
    workers: int | None,
    scheduler: str | None,
    done: Done,
    advance: Advance,
    cancelled: threading.Event,
) -> Outcome:
    """Let workers do units; a lost worker's unit goes to another.

    A unit that ends every worker it is given to is left out and comes back as failed, and so is
    one that fails with one of `OF_ONE_UNIT`. Any other error ends all.

    Parameters
    ----------
    workers : processes of this machine; None for those of the scheduler
    scheduler : its address

    Raises
    ------
    ConfigError
        If no scheduler or no worker answers.
    DeviceError
        If the scheduler is lost, or all workers for long.
    Cancelled
        If `cancelled` was set before all were done.
    SrpipeError
        As a worker raised it.
    """
    with _client(workers, scheduler) as (client, threads), client.as_current():
        crew = _Crew(client, work, threads, done, cancelled)
        client.subscribe_topic(crew.name, lambda event: advance(*event[1]))
        try:
            crew.do(deque(units))
        except BaseException:
            crew.stop()
            raise
        return crew.outcome


class _Crew:
    """The workers, what they are at, and what came of it; `name` is the job's own on each."""

    def __init__(
        self, client: Any, work: Work, threads: int, done: Done, cancelled: threading.Event
    ) -> None:
        self.name = f"srpipe-{uuid.uuid4().hex[:12]}"
        self.outcome = Outcome()
        self._client, self._threads = client, threads
        self._work, self._software = work, software(work.settings)
        self._done, self._cancelled = done, cancelled
        self._at: dict[Any, Unit] = {}
        self._suspects: deque[Unit] = deque()
        self._manned = time.monotonic()

    def do(self, units: deque[Unit]) -> None:
        """Keep all workers busy until nothing is left; suspects come last, each alone.

        All units that a worker has when it dies are under suspicion, and most of them wrongly.
        """
        self._flow(units, lambda workers: IN_FLIGHT * max(workers, 1))
        alone, self._suspects = self._suspects, deque()
        self._flow(alone, lambda _workers: 1)
        for unit in self._suspects:
            self.outcome.failures[unit.name] = DeviceError(
                f"unit {unit.name} ended every worker that took it; its memory may not suffice, or"
                " a library cannot take its part of the input"
            )

    def stop(self) -> None:
        """Let the workers come to an end soon; what they have is given up."""
        if self._client.status != "running":  # or half a minute goes into a new connection
            return
        with suppress(Exception):  # the scheduler may be lost meanwhile
            self._client.run(_stop, self.name, wait=False)
            self._client.cancel(list(self._at), asynchronous=False)

    def _flow(self, units: deque[Unit], window: Callable[[int], int]) -> None:
        while units or self._at:
            with self._heard():
                room = window(self._workers())
                while units and len(self._at) < room:
                    self._give(units.popleft())
                finished = self._finished()
            for future in finished:
                self._taken(future, self._at.pop(future))

    def _give(self, unit: Unit) -> None:
        key = f"{self.name}-{uuid.uuid4().hex}"  # a file's name need not be text
        given = self._work, self._software, unit, self.name, self._threads
        self._at[self._client.submit(_do, *given, key=key, pure=False)] = unit

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Say what it means where Dask gives up in the block."""
        try:
            yield
        except (OSError, CancelledError) as error:  # a closed connection is an OSError to Dask
            raise DeviceError(
                f"the Dask scheduler at {self._client.scheduler.address} is lost; what is finished"
                " is kept: start it and its workers again, and the same command goes on"
            ) from error

    def _finished(self) -> list[Any]:
        from distributed import wait

        if self._cancelled.is_set():
            raise Cancelled("stopped")
        with suppress(TimeoutError):
            wait(list(self._at), timeout=_LOOK_S, return_when="FIRST_COMPLETED")
        return [future for future in self._at if future.done()]

    def _workers(self) -> int:
        """How many there are; 0 ends all if there were none for long."""
        now, patience_s = time.monotonic(), _ALONE_S if self._threads else _DESERTED_S
        count = len(self._client.nthreads())
        if count:
            self._manned = now
        elif now - self._manned > patience_s:
            raise DeviceError(
                f"no worker has been there for {patience_s / 60:.0f} minutes; what is finished is"
                " kept: look for what ended them, and the same command goes on"
            )
        return count

    def _taken(self, future: Any, unit: Unit) -> None:
        from distributed import KilledWorker

        try:
            with self._heard():  # what it was at is cancelled where the scheduler is lost
                made, busy = future.result()
        except KilledWorker:  # or it had come to an end, and its result was lost with the worker
            self._suspects.append(unit)
        else:
            self._reported(unit, made, busy)
        future.release()

    def _reported(self, unit: Unit, made: Receipt | Exception, busy: Counter[str]) -> None:
        self.outcome.busy.update(busy)
        if isinstance(made, Receipt):
            self._done(made)
        elif isinstance(made, OF_ONE_UNIT):
            self.outcome.failures[unit.name] = made
        else:
            raise made


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[tuple[Any, int]]:
    """A client, and how many threads each worker's network may have."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_WAIT_S, set_as_default=False)
            client.wait_for_workers(1, timeout=_WAIT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                f"no Dask scheduler with a worker answers at {scheduler} ({error}); start them"
                " with `dask scheduler` and `dask worker`, or use --workers"
            ) from None
        with client:
            yield client, 0
        return
    assert workers is not None
    warnings = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _UNTOLD)))
    settings = {
        "distributed.scheduler.allowed-failures": _KILLS,
        "distributed.worker.daemon": True,
        "distributed.comm.timeouts.connect": _WAIT_S,
        "distributed.deploy.lost-worker-timeout": _AWAY,
    }
    with (
        _environ(dask.config.get(_ENVIRON), {**KEEP_FREED, "PYTHONWARNINGS": warnings}),
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=0,  # tiles are chosen by what is free; Dask would only end the process
            silence_logs=100,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client, max(torch.get_num_threads() // workers, 1)


@contextmanager
def _environ(of_dask: Iterable[str], ours: Mapping[str, int | str]) -> Iterator[None]:
    """For the block alone: `ours`, and what Dask sets in this process for its workers to have.

    Dask lets a variable that is here already stand, so another cluster's may be in the way.
    """
    before = {name: os.environ.get(name) for name in {*of_dask, *ours}}
    os.environ.update({name: str(value) for name, value in ours.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# --- in a worker -------------------------------------------------------------------------------

_workers: dict[str, Worker] = {}  # by job; the last one only
_stops: dict[str, threading.Event] = {}
_turn = threading.Lock()


def _do(
    work: Work, wanted: Mapping[str, str], unit: Unit, job: str, threads: int
) -> tuple[Receipt | Exception, Counter[str]]:
    """Do one unit, and say what came of it.

    Errors come back as values: the traceback of one that is raised has to be rebuilt in the client,
    and where that fails the client never hears of its end.
    """
    try:
        with memory_told(f"unit {unit.name}"):
            return _made(work, wanted, unit, job, threads)
    except SrpipeError as error:
        return error, Counter()
    except Exception:
        return RuntimeError(f"unit {unit.name} failed in a worker:\n{format_exc()}"), Counter()


def _made(
    work: Work, wanted: Mapping[str, str], unit: Unit, job: str, threads: int
) -> tuple[Receipt, Counter[str]]:
    """Do one unit; the first one of a job opens what the others use as well."""
    from distributed import get_worker

    told = 0.0

    def advance(name: str, size: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            get_worker().log_event(job, (name, size))

    receipts: list[Receipt] = []
    with _turn:  # a worker of a cluster may have several threads, and one device
        worker = _workers.get(job) or _begun(work, wanted, job, threads)
        stop = _stops.setdefault(job, threading.Event())
        outcome = worker.perform([unit], done=receipts.append, advance=advance, cancelled=stop)
    for error in outcome.failures.values():
        raise error
    return receipts[0], outcome.busy


def _begun(work: Work, wanted: Mapping[str, str], job: str, threads: int) -> Worker:
    from distributed import get_worker

    check(wanted, work.settings)
    for other in list(_workers):
        _workers.pop(other).close()
    # a nanny sets OMP_NUM_THREADS to 1, which is too few where it has more than that to itself
    torch.set_num_threads(threads or _share())
    # our own workers are numbered from 0 on; what a cluster's may see of the cards is its affair
    _workers[job] = work.begun(Engine(get_worker().name if threads else 0))
    return _workers[job]


def _share() -> int:
    """Cores of this machine, divided by its workers."""
    from distributed import get_client, get_worker

    host = get_worker().address.rpartition(":")[0]
    client = get_client()  # the worker's own, which is not ours to close
    here = sum(address.rpartition(":")[0] == host for address in client.nthreads())
    return max(len(os.sched_getaffinity(0)) // max(here, 1), 1)


async def _stop(job: str) -> None:
    """Let what a worker does of a job come to an end; a coroutine, as only these go unawaited."""
    _stops.setdefault(job, threading.Event()).set()
