"""Two processes on one video, and what becomes of it where one of them is lost."""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import distributed  # so that its settings are there before one is changed
import pytest
import torch
import toy as network
from test_cli import draw
from test_device import glibc
from test_jobs import names
from test_video_resume import FAST, decoded, long_clip

from srpipe import device, jobs
from srpipe.errors import Cancelled, ConfigError, DeviceError
from srpipe.jobs import folder, software, spread
from srpipe.jobs.job import Unit
from srpipe.jobs.journal import receipts
from srpipe.jobs.target import part_of
from srpipe.settings import RunSettings

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def settings(toy, monkeypatch):
    """Settings for two workers that have the toy network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    preload = str(Path(__file__).with_name("toy_worker.py"))
    with dask.config.set({"distributed.worker.preload": [preload]}):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        yield lambda **values: RunSettings(
            **{"model": "toy", "weights": toy, "perception": 0.0, "options": FAST, "workers": 2}
            | values
        )


def test_two_workers_make_what_one_process_makes(tmp_path, settings):
    source = long_clip(tmp_path / "in.mp4")
    seen = []
    one = jobs.upscale(source, tmp_path / "one.mp4", settings(workers=None))
    two = jobs.upscale(source, tmp_path / "two.mp4", settings(), report=seen.append)
    assert decoded(two.target) == decoded(one.target)
    assert two.frames == one.frames == 400
    assert two.limited_by in ("decode", "infer", "encode")
    assert (two.device, two.precision) == ("cpu", "fp32")
    assert names(tmp_path) == ["in.mp4", "one.mp4", "two.mp4"]


@glibc
def test_workers_keep_the_memory_that_tensors_leave(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as somebody's Dask cluster leaves it
    before = _environ_of_malloc()
    with spread._client(1, None) as (client, _threads):
        (kept,) = client.run(_kept_of_a_tensor).values()
        (environ,) = client.run(_environ_of_malloc).values()
    assert kept >= 2**28 - 2**24
    assert environ == {name: str(value) for name, value in device.KEEP_FREED.items()}
    assert _environ_of_malloc() == before


def _kept_of_a_tensor():
    import torch

    from srpipe.device import _kept_bytes

    torch.ones(2**26)  # 2**28 bytes
    return _kept_bytes()


def _environ_of_malloc():
    return {name: value for name, value in os.environ.items() if name.startswith("MALLOC")}


def test_a_lost_worker_costs_its_unit_and_no_more(tmp_path, settings, monkeypatch):
    source = long_clip(tmp_path / "in.mp4")
    monkeypatch.setenv("SRPIPE_TEST_KILL", "00000192-00000288")
    monkeypatch.setenv("SRPIPE_TEST_ONCE", str(tmp_path / "killed"))
    result = jobs.upscale(source, tmp_path / "out.mp4", settings())
    assert (tmp_path / "killed").exists()
    assert result.checked["frames"] == 400


def test_a_unit_that_ends_every_worker_is_named_and_the_others_are_kept(
    tmp_path, settings, monkeypatch
):
    source = long_clip(tmp_path / "in.mp4")
    monkeypatch.setenv("SRPIPE_TEST_KILL", "00000096-00000192")
    with pytest.raises(DeviceError, match=r"1 of 5 units failed, 00000096-00000192 first: .*ended"):
        jobs.upscale(source, tmp_path / "out.mp4", settings())
    pieces = sorted(path.stem for path in part_of(tmp_path / "out.mp4").glob("*.piece"))
    assert len(pieces) == 4
    monkeypatch.delenv("SRPIPE_TEST_KILL")
    result = jobs.upscale(source, tmp_path / "out.mp4", settings(workers=None))
    assert result.checked["frames"] == 400
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_unit_whose_result_is_lost_with_its_worker_is_under_suspicion(settings):
    """It had come to an end when the worker died of another, and then ended others itself."""
    lost = distributed.KilledWorker("unit", SimpleNamespace(), 1)
    future = Mock(status="finished", result=Mock(side_effect=lost))
    crew = spread._Crew(Mock(), Mock(settings=settings()), 1, Mock(), threading.Event())
    crew._taken(future, Unit(name="one", size=1, facts={}))
    assert [unit.name for unit in crew._suspects] == ["one"]
    future.release.assert_called_once()


def test_a_worker_that_is_long_in_beginning_anew_is_not_given_up():
    """It was closed for good, so that its unit ended another worker, or the job waited forever."""
    soon = {"distributed.deploy.lost-worker-timeout": "10ms"}
    with dask.config.set(soon), spread._client(1, None) as (client, _threads):
        (lost,) = client.run(os.getpid).values()
        os.kill(lost, signal.SIGKILL)
        assert client.submit(_pid_in_a_second, pure=False).result(timeout=120) != lost


def _pid_in_a_second():
    time.sleep(1)
    return os.getpid()


def test_workers_that_never_come_back_are_not_waited_for_forever(tmp_path, settings, monkeypatch):
    """It waited in silence."""
    source = long_clip(tmp_path / "in.mp4")
    begun, begin = [], distributed.Nanny.instantiate

    async def twice(nanny):
        begun.append(nanny)
        if len(begun) > 2:
            raise OSError("no process can be started")
        return await begin(nanny)

    with monkeypatch.context() as patch:
        patch.setattr(distributed.Nanny, "instantiate", twice)
        patch.setattr(spread, "_ALONE_S", 2)
        patch.setenv("SRPIPE_TEST_KILL", "00000096-00000192")
        with pytest.raises(DeviceError, match=r"no worker .* what is finished is kept: .* goes on"):
            jobs.upscale(source, tmp_path / "out.mp4", settings())
    assert receipts(part_of(tmp_path / "out.mp4"))
    result = jobs.upscale(source, tmp_path / "out.mp4", settings(workers=None))
    assert result.checked["frames"] == 400


def test_a_cluster_is_given_longer_to_have_a_worker_again(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(spread, "_ALONE_S", 0)
    source = long_clip(tmp_path / "in.mp4", frames=200)
    with distributed.LocalCluster(n_workers=1, dashboard_address=":0") as cluster:
        gone = []

        def goes(event):
            if event.kind == "progress" and event.facts["done"] and not gone:
                gone.append(cluster.scale(0))
                threading.Timer(3, cluster.scale, (1,)).start()

        at = {"workers": None, "scheduler": cluster.scheduler_address}
        result = jobs.upscale(source, tmp_path / "out.mp4", settings(**at), report=goes)
        assert gone
    assert result.checked["frames"] == 200


def test_cancelling_ends_the_workers_and_keeps_what_is_done(tmp_path, toy, settings):
    slow = network.install(tmp_path / "weights", sleep_s=0.02)
    source = long_clip(tmp_path / "in.mp4")
    stop = threading.Event()

    def after_two(event):
        if len(list(part_of(tmp_path / "out.mp4").glob("*.piece"))) >= 2:
            stop.set()

    threading.Thread(
        target=lambda: [stop.wait(0.02) or after_two(None) for _ in range(3000)]
    ).start()
    with pytest.raises(Cancelled, match=r"of 400 frames are kept, and the same command goes on"):
        jobs.upscale(source, tmp_path / "out.mp4", settings(weights=slow), cancelled=stop)
    result = jobs.upscale(source, tmp_path / "out.mp4", settings(weights=slow, workers=None))
    assert result.checked["frames"] == 400


def test_the_workers_of_a_cluster_hear_of_a_stop(tmp_path, settings):
    """They went on with what they had, such as a whole film of a folder."""
    slow = network.install(tmp_path / "weights", sleep_s=0.1)
    source = long_clip(tmp_path / "in.mp4")
    stop = threading.Event()

    def begun(event):
        if event.kind == "progress" and event.facts["done"]:
            stop.set()

    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        at = {"workers": None, "scheduler": cluster.scheduler_address, "weights": slow}
        with pytest.raises(Cancelled):
            jobs.upscale(source, tmp_path / "out.mp4", settings(**at), report=begun, cancelled=stop)
        began = time.monotonic()
        while any(client.run(_is_busy).values()):
            assert time.monotonic() - began < 4, "as long as half a unit takes"
            time.sleep(0.1)


def _is_busy():
    from srpipe.jobs import spread

    return spread._turn.locked()


def test_a_worker_with_another_library_is_refused(tmp_path, settings, monkeypatch):
    source = long_clip(tmp_path / "in.mp4")
    monkeypatch.setenv("SRPIPE_TEST_TORCH", "1.0")
    with pytest.raises(ConfigError, match=r"has torch 1\.0 and the job was begun with "):
        jobs.upscale(source, tmp_path / "out.mp4", settings())


def test_weights_that_differ_are_named(toy, tmp_path):
    here = RunSettings(model="toy", weights=toy)
    software.check(software.software(here), here)
    wanted = software.software(here) | {"toy-lite-x2-fidelity.safetensors": "0123456789abcdef"}
    with pytest.raises(ConfigError, match=r"fidelity.safetensors \w{12} and .*with 0123456789ab;"):
        software.check(wanted, here)


def test_a_scheduler_that_is_not_there_is_named(tmp_path, settings, monkeypatch):
    monkeypatch.setattr("srpipe.jobs.spread._WAIT_S", 1)
    source = long_clip(tmp_path / "in.mp4", frames=4)
    with pytest.raises(ConfigError, match=r"no Dask scheduler .* answers at tcp://127\.0\.0\.1:9"):
        jobs.upscale(source, None, settings(workers=None, scheduler="tcp://127.0.0.1:9"))
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("count", [3, 20])
def test_a_scheduler_that_is_lost_is_told_as_such(tmp_path, settings, monkeypatch, count):
    """It was told as a full disk. Of three files all are given to the worker by then."""
    monkeypatch.setattr("srpipe.jobs.spread._WAIT_S", 5)
    (tmp_path / "in").mkdir()
    draw(*(tmp_path / "in" / f"{number:02}.png" for number in range(count)))
    slow = network.install(tmp_path / "weights", sleep_s=0.3)
    cluster = distributed.LocalCluster(n_workers=1, dashboard_address=":0")

    def close(event):
        if event.facts.get("done") == 1:
            cluster.close()

    at = {"workers": None, "scheduler": cluster.scheduler_address, "weights": slow}
    lost = rf"scheduler at {at['scheduler']} is lost; what .* again"
    with pytest.raises(DeviceError, match=lost):
        folder.upscale(tmp_path / "in", tmp_path / "out", settings(**at), report=close)
    there = folder.plan(tmp_path / "in", tmp_path / "out", settings(weights=slow))
    assert (there.kept, there.foreign) == (1, ())


def test_weights_are_found_from_the_folder_that_workers_are_in(
    tmp_path, toy, settings, monkeypatch
):
    """They were looked for beside the worker, where there are none."""
    (tmp_path / "in").mkdir()
    draw(tmp_path / "in" / "a.png")
    long_clip(tmp_path / "in.mp4", frames=4)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(toy.parent)
    by_folder = {"weights": Path(toy.name)}
    by_file = {"weights": None, "model": f"{toy.name}/toy-lite-x2-fidelity.json"}
    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.run(os.chdir, elsewhere)
        at = {"workers": None, "scheduler": cluster.scheduler_address}
        for number, named in enumerate((by_folder, by_file)):
            pictures = folder.upscale(
                tmp_path / "in", tmp_path / f"{number}", settings(**at, **named)
            )
            assert pictures.failures == {}
            film = jobs.upscale(
                tmp_path / "in.mp4", tmp_path / f"{number}.mp4", settings(**at, **named)
            )
            assert film.frames == 4


def test_workers_have_what_memory_of_the_device_this_process_keeps(monkeypatch):
    """What statistics of a raster were gathered with stayed here, and workers had the rest."""
    done = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("given back"))
    monkeypatch.setattr(spread, "spread", lambda *_, **__: done.append("spread"))
    given = dict.fromkeys(("engine", "scheduler", "done", "advance", "cancelled"))
    spread.performed(None, [None], workers=1, **given)
    assert done == ["given back", "spread"]


def test_each_worker_takes_a_card_in_its_turn():
    """All of them took the first one."""
    with spread._client(2, None) as (client, threads):
        asked = [
            client.submit(_turn_of_a_worker, number, workers=address, pure=False)
            for number in (threads, 0)
            for address in client.nthreads()
        ]
        turns = client.gather(asked)
    assert sorted(turns[:2]) == [0, 1]
    assert turns[2:] == [0, 0], "what a cluster's workers see of its cards is its own affair"


def _turn_of_a_worker(threads):
    """What its engine is told, with so many threads for the network."""
    from types import SimpleNamespace

    from srpipe.jobs import spread

    before, spread.check = spread.check, lambda *_: None
    work = SimpleNamespace(settings=None, begun=lambda engine: engine)
    try:
        return spread._begun(work, {}, "job", threads)._turn
    finally:
        spread.check = before
        spread._workers.clear()
