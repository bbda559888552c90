"""The plugin in a viewer on a screen, which may be a virtual one."""

import gc
import json
import os
import sys
import time
import weakref
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed")
pytestmark = pytest.mark.skipif(
    sys.platform.startswith("linux") and not os.environ.get("DISPLAY"),
    reason="no display; xvfb-run -a gives a virtual one",
)

LONG_MS = 120_000


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy()


@pytest.fixture
def form(viewer, toy, qtbot, monkeypatch):
    """The form, with one known network to choose."""
    from napari_sr import widget
    from srpipe import zoo

    monkeypatch.setattr(widget, "_found", lambda: (zoo.entries(toy), ["cpu"]))
    monkeypatch.setattr(widget, "_weights", lambda: toy)
    form = widget.SuperResolution(viewer)
    viewer.window.add_dock_widget(form, name="Super-resolution")
    qtbot.waitUntil(lambda: bool(form._entries), timeout=LONG_MS)
    return form


@pytest.fixture
def click(qtbot, form):
    """Press a button and wait until what it started is over."""

    def click(button):
        button.native.click()
        qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)

    return click


def add(viewer, form, pixels, **how):
    layer = viewer.add_image(pixels, **how)
    form.layer.reset_choices()
    form.layer.value = layer
    return layer


def test_a_result_too_large_for_memory_is_a_layer_too(viewer, form, click, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.setattr("napari_sr.keep.MEMORY_BYTES", 100)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    add(viewer, form, pixels, name="cells", opacity=0.5)
    form.region.value = "whole layer"
    click(form.button)
    result = viewer.layers["cells x2"]
    assert result.multiscale
    assert result.opacity == 0.5
    np.testing.assert_array_equal(np.asarray(result.data[0]), pixels.repeat(2, 0).repeat(2, 1))


def test_a_folder_that_is_not_there_is_told_in_one_line(viewer, form, click, monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr("napari_sr.live.show_error", told.append)
    monkeypatch.setattr("napari_sr.keep.MEMORY_BYTES", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
    add(viewer, form, np.zeros((20, 30), np.uint8), name="cells")
    form.region.value = "whole layer"
    click(form.button)
    (line,) = told
    assert "No such file or directory" in line
    assert len(viewer.layers) == 1


def test_a_mask_can_be_chosen_and_is_refused_in_one_line(viewer, form, monkeypatch):
    told = []
    monkeypatch.setattr("napari_sr.widget.show_error", told.append)
    add(viewer, form, np.eye(20, 30) > 0)
    form.region.value = "whole layer"
    form.button.native.click()
    (line,) = told
    assert "bool" in line


def test_a_run_gives_a_layer_that_lies_and_looks_like_its_input(viewer, form, click):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    layer = add(
        viewer,
        form,
        pixels,
        name="cells",
        scale=(2, 0.5, 0.25),
        translate=(1, 5, 7),
        units=("um",) * 3,
        axis_labels=("z", "y", "x"),
        contrast_limits=(10, 200),
        colormap="green",
        gamma=0.7,
        blending="additive",
    )
    form.region.value = "whole layer"
    click(form.button)
    result = viewer.layers["cells x2"]
    np.testing.assert_array_equal(result.data, pixels.repeat(2, 1).repeat(2, 2))
    assert result.colormap.name == "green"
    assert (result.gamma, result.blending) == (0.7, "additive")
    assert list(result.contrast_limits) == [10, 200]
    assert result.units == layer.units
    assert result.axis_labels == ("z", "y", "x")
    np.testing.assert_allclose(
        result.data_to_world((0, -0.5, -0.5)), layer.data_to_world((0, -0.5, -0.5))
    )
    assert result.metadata["srpipe"]["complete"]
    assert result.metadata["srpipe"]["record"]["model"]["weights_sha256"]


def test_every_button_does_what_it_says(viewer, form, click):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    add(viewer, form, pixels, name="photo", rgb=True)
    for region in ("current view", "current slice", "whole layer"):
        form.region.value = region
        click(form.button)
    click(form.gradients)
    form.doubt.value = True
    click(form.trust)
    names = {layer.name.partition(": ")[2] for layer in viewer.layers}
    assert names >= {
        "gradient of input",
        "gradient of result",
        "residual",
        "added detail",
        "validity",
        "model disagreement",
    }
    count = len(viewer.layers)
    click(form.trust)  # renews, and adds none
    assert len(viewer.layers) == count
    for way in ("side by side", "every map", "blend"):
        form.compare.value = way
    form.fade.value = 0.25
    assert any(layer.opacity == 0.25 for layer in viewer.layers)
    form.compare.value = "all layers"
    for widget in (form.precision, form.device, form.range, form.tile):
        widget.value = widget.choices[-1]
    form.perception.value = 0.5
    assert "not for counting" in form.dial.value


def test_maps_of_a_raster_are_saved_where_it_lies(viewer, form, click, tmp_path):
    """They lay nowhere, or upside down."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    from raster_files import write

    from napari_sr import menu
    from napari_sr.reader import raster_reader
    from napari_sr.writer import write_labels, write_raster
    from srpipe.io.raster import Band, World

    crs = rasterio.CRS.from_epsg(32632).to_wkt()
    world = World(affine=(10, 0, 500_000, 0, -10, 5_400_000), crs=crs)
    pixels = np.random.default_rng(0).integers(1, 250, (1, 1, 1, 20, 30)).astype(np.uint16)
    about = {"world": world, "nodata": 0, "bands": (Band(name="red", scale=0.1),)}
    source = str(write(tmp_path / "in.tif", pixels, "geotiff", **about))
    [(data, meta, _)] = raster_reader(source)(source)
    layer = add(viewer, form, data, **meta)
    form.region.value = "whole layer"
    for button in (form.button, form.gradients, form.trust):
        click(button)
    viewer.layers.selection.clear()
    viewer.layers.selection.add(layer)
    menu.gradient(viewer)
    maps = [
        each
        for each in viewer.layers
        if any(name in each.name for name in ("gradient", "residual", "validity"))
    ]
    assert len(maps) == 5
    for each in maps:
        target = tmp_path / "map.tif"
        data, meta, kind = each.as_layer_data_tuple()
        writer = {"image": write_raster, "labels": write_labels}[kind]
        assert writer(str(target), data, meta) == [str(target)]
        with rasterio.open(target) as file:
            step = 5 if each.name.endswith(("of result", "validity")) else 10
            assert file.crs.to_epsg() == 32632
            wanted = rasterio.Affine(step, 0, 500_000, 0, -step, 5_400_000)
            assert file.transform.almost_equals(wanted)
            assert (file.nodata, file.scales) == (None, (1.0,))


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
def test_a_saved_result_says_where_it_comes_from(viewer, form, click, tmp_path, toy, name):
    """What `srpipe upscale` writes into a result was not in one that was saved here."""
    pytest.importorskip("zarr")
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    from raster_files import read, write

    from napari_sr.reader import raster_reader
    from napari_sr.writer import write_raster
    from srpipe import jobs
    from srpipe.settings import RunSettings

    kind = {"a.tif": "geotiff", "a.ome.tif": "ometiff", "a.ome.zarr": "omezarr"}[name]
    pixels = np.random.default_rng(0).integers(0, 250, (1, 1, 1, 20, 30)).astype(np.uint16)
    source = write(tmp_path / name, pixels, kind)
    settings = RunSettings(model="toy-lite", scale=2, perception=0, weights=toy)
    wanted = jobs.upscale(source, tmp_path / f"command-{name}", settings).target
    wanted = json.loads(read(wanted)[0].record)
    [(data, meta, _)] = raster_reader(str(source))(str(source))
    add(viewer, form, data, **meta)
    form.region.value = "whole layer"
    for target in (tmp_path / f"once-{name}", tmp_path / f"twice-{name}"):
        click(form.button)
        form.layer.value = result = viewer.layers[-1]
        write_raster(str(target), result.data, result.as_layer_data_tuple()[1])
        found = json.loads(read(target)[0].record)
        assert found.keys() == wanted.keys()
        for key in ("model", "software", "scale", "kernel", "device", "precision"):
            assert found[key] == wanted[key]
    assert found["size_before"] == wanted["size_after"]
    assert found["input"]["record"]["size_after"] == wanted["size_after"]
    [(data, meta, _)] = raster_reader(str(target))(str(target))
    again = tmp_path / f"again-{name}"
    write_raster(str(again), data, meta)
    assert json.loads(read(again)[0].record) == found


@pytest.mark.parametrize("memory", [2**28, 100])
def test_a_result_that_is_deleted_is_not_kept(viewer, form, click, monkeypatch, memory):
    """It was, with all its pixels, as long as the viewer was open."""
    monkeypatch.setattr("napari_sr.keep.MEMORY_BYTES", memory)
    add(viewer, form, np.zeros((24, 32), np.uint8), name="photo")
    click(form.button)
    click(form.gradients)
    viewer.layers.remove("photo x2: gradient of input")
    (made,) = form._live.made
    assert list(made.maps) == ["gradient of result"]
    click(form.gradients)
    assert len(made.maps) == 2
    kept = weakref.ref(made.began.keep)
    del made
    viewer.layers.remove("photo x2")
    gc.collect()
    assert form._live.made == []
    assert kept() is None


def test_whatever_fails_is_told_and_frees_the_form(viewer, form, click, monkeypatch):
    """A RuntimeError too, which ended the worker in silence: the form was busy for ever."""
    from napari_sr import live, run

    def broken(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    told = []
    monkeypatch.setattr(live, "show_error", told.append)
    monkeypatch.setattr(run, "run", broken)
    add(viewer, form, np.zeros((8, 9), np.uint8), name="a")
    click(form.button)
    assert told == ["RuntimeError: CUDA error: an illegal memory access was encountered"]


def test_a_run_whose_result_cannot_be_shown_ends(viewer, form, qtbot, slow_toy, monkeypatch):
    """It went on to the last tile, for nobody."""
    import toy

    told, tiles, forward = [], [], toy.Toy.forward

    def counted(self, x):
        tiles.append(x)
        return forward(self, x)

    def broken(_made):
        raise ValueError("no such layer")

    monkeypatch.setattr(toy.Toy, "forward", counted)
    monkeypatch.setattr(form._live, "_add", broken)
    monkeypatch.setattr(form._live, "_told", told.append)
    add(viewer, form, np.zeros((64, 640), np.uint8), name="long")
    form.tile.value = "64"
    with qtbot.capture_exceptions() as caught:
        form.button.native.click()
        qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)
    assert [str(error) for _kind, error, _where in caught] == ["no such layer"]
    assert told[-1] == "Stopped."
    assert len(tiles) < 10


def test_the_maps_of_a_result_that_is_deleted_are_not_made(viewer, form, qtbot, click, monkeypatch):
    """They came up beside nothing."""
    from napari_sr import maps

    make = maps.Pair.residual

    def slow(self, *at):
        time.sleep(0.1)
        return make(self, *at)

    monkeypatch.setattr(maps.Pair, "residual", slow)
    add(viewer, form, np.zeros((24, 32), np.uint8), name="photo")
    click(form.button)
    form.trust.native.click()
    viewer.layers.remove("photo x2")
    qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)
    assert [layer.name for layer in viewer.layers] == ["photo"]
    assert form.status.value == "Trust maps: stopped"


def test_a_run_ends_in_silence_when_the_form_goes(viewer, form, qtbot, slow_toy):
    """Its end wanted to stop a timer that had gone with the form."""
    live = form._live
    add(viewer, form, np.zeros((64, 640), np.uint8), name="long")
    form.tile.value = "64"
    form.button.native.click()
    qtbot.waitUntil(lambda: live._now is not None, timeout=LONG_MS)
    with qtbot.capture_exceptions() as caught:
        form.native.deleteLater()
        qtbot.waitUntil(lambda: not live.busy, timeout=LONG_MS)
    assert live._now.done < 10
    assert caught == []


def test_a_run_stops_when_the_form_is_closed_and_what_is_done_stays(viewer, form, qtbot, slow_toy):
    """It went on to the last tile, and nothing was left to stop it by."""
    from napari._qt.widgets.qt_viewer_dock_widget import QtViewerDockWidget

    live = form._live
    add(viewer, form, np.full((64, 640), 7, np.uint8), name="long")
    form.tile.value = "64"
    form.button.native.click()
    qtbot.waitUntil(lambda: live._now is not None and live._now.done >= 1, timeout=LONG_MS)
    dock = form.native.parent()
    assert isinstance(dock, QtViewerDockWidget)
    dock.setFloating(True)
    dock.hide()
    assert not live._stop.is_set(), "it is only out of the way"
    with qtbot.capture_exceptions() as caught:
        dock.destroyOnClose()
        qtbot.waitUntil(lambda: not live.busy, timeout=LONG_MS)
    assert caught == []
    (made,) = live.made
    assert made.done < 10
    assert made.layer.name.endswith(f"(partial: {made.done} of 10 tiles)")
    assert (np.asarray(made.layer.data)[:, :128] == 7).all()


def test_a_layer_of_a_file_with_a_mask_is_refused(viewer, form, monkeypatch):
    from napari_sr import widget

    told = []
    monkeypatch.setattr(widget, "show_error", told.append)
    raster = type("Masked", (), {"masked": True, "nodata": None})()
    add(viewer, form, np.zeros((8, 9), np.uint8), name="a", metadata={"raster": raster})
    form.button.native.click()
    assert "a validity mask, which a layer cannot hold; enlarge that file itself" in told[0]


def seen(viewer):
    """What a comparison changes."""
    from napari_sr import compat

    grid, camera = compat.grid(viewer), compat.camera(viewer)
    view = round(camera.zoom, 6), tuple(np.round(camera.center, 6))
    layers = [(layer.name, layer.visible, layer.opacity) for layer in viewer.layers]
    return grid.enabled, grid.stride, tuple(grid.shape), layers, view


def test_all_layers_are_as_they_were_after_each_way_to_compare(viewer, form, click):
    """Opacity, the view, the user's grid and, with no result any more, hidden layers were not."""
    from napari_sr import compat

    add(viewer, form, np.zeros((24, 32), np.uint8), name="photo", opacity=0.5)
    click(form.button)
    click(form.gradients)
    viewer.add_image(np.zeros((24, 32)), name="hidden", visible=False)
    grid = compat.grid(viewer)
    grid.stride, grid.shape, grid.enabled = 2, (2, 2), True
    compat.camera(viewer).zoom, compat.camera(viewer).center = 11, (5, 6)
    before = seen(viewer)
    for way in ("side by side", "every map", "blend"):
        form.compare.value = way
        form.fade.value = 0.25
        viewer.layers["hidden"].name = f"hidden in {way}"
        assert seen(viewer) != before
        form.compare.value = "all layers"
        viewer.layers[f"hidden in {way}"].name = "hidden"
        assert seen(viewer) == before
    form.compare.value = "side by side"
    viewer.layers.remove("photo x2")
    form.compare.value = "all layers"
    before[3].remove(("photo x2", True, 0.5))
    assert seen(viewer) == before


def test_without_a_result_nothing_is_compared(viewer, form, monkeypatch):
    told = []
    monkeypatch.setattr("napari_sr.widget.show_error", told.append)
    add(viewer, form, np.zeros((24, 32), np.uint8), name="photo")
    form.compare.value = "blend"
    assert told == ["there is no result to compare yet; run first"]
    assert form.compare.value == "all layers"


def test_the_menu_adds_a_gradient_map_and_compares_two_layers(viewer):
    from napari_sr import compat, menu
    from srpipe.errors import ConfigError

    pixels = np.random.default_rng(0).integers(0, 255, (3, 24, 32), dtype=np.uint8)
    layer = viewer.add_image(pixels, name="stack", scale=(1, 2, 2))
    viewer.layers.selection.active = layer
    menu.gradient(viewer)
    added = viewer.layers["stack: gradient"]
    assert added.data.shape == pixels.shape
    assert np.array_equal(added.scale, layer.scale)
    with pytest.raises(ConfigError, match="1 image layers are selected; select 2"):
        menu.compare(viewer)
    third = viewer.add_image(pixels, name="third")
    viewer.layers.selection.clear()
    viewer.layers.selection.update({layer, added})
    menu.compare(viewer)
    assert compat.grid(viewer).enabled
    assert not third.visible
    menu.compare(type(viewer)(viewer.__wrapped__))  # napari wraps it anew for each command
    assert not compat.grid(viewer).enabled
    assert third.visible


def test_a_rectangle_is_enlarged_where_it_was_drawn(viewer, form, click):
    layer = add(viewer, form, np.zeros((40, 50), np.uint8), name="field", scale=(2, 3))
    shapes = viewer.add_shapes([[[10, 12], [10, 60], [30, 60], [30, 12]]], name="drawn")
    form.shapes.reset_choices()
    form.region.value = "rectangle"
    form.shapes.value = shapes
    form.layer.value = layer
    click(form.button)
    result = viewer.layers["field x2"]
    assert result.data.shape == (22, 34)
    np.testing.assert_allclose(result.data_to_world((-0.5, -0.5)), layer.data_to_world((4.5, 3.5)))


def test_without_an_image_the_form_says_so_in_one_line(form, click, monkeypatch):
    said = []
    monkeypatch.setattr("napari_sr.widget.show_error", said.append)
    form.button.native.click()
    form.gradients.native.click()
    assert "there is no image to enlarge" in said[0]
    assert "there is no result yet" in said[1]


def test_an_error_of_the_run_is_one_line(viewer, form, click, monkeypatch):
    said = []
    monkeypatch.setattr("napari_sr.live.show_error", said.append)
    add(viewer, form, np.zeros((20, 30), np.uint8))
    for weights in form._entries[0].card.folder.glob("*.safetensors"):
        weights.unlink()
    click(form.button)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert form.button.text == "Run"


def choose(form, monkeypatch, path):
    """Answer the dialog for a file."""
    from napari_sr import widget

    monkeypatch.setattr(widget.QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    form.file.native.click()


def repeating(scale):
    """Weights of Real-ESRGAN's compact network that add nothing to repeated pixels."""
    import torch

    last = 3 * scale**2
    shapes = {0: (4, 3, 3, 3), 1: (4,), 2: (4, 4, 3, 3), 3: (4,), 4: (last, 4, 3, 3)}
    weights = {f"body.{i}.weight": torch.zeros(shape) for i, shape in shapes.items()}
    biases = {f"body.{i}.bias": torch.zeros(shapes[i][0]) for i in (0, 2, 4)}
    return weights | biases


def test_a_network_from_a_file_enlarges(viewer, form, click, qtbot, monkeypatch, tmp_path):
    import torch

    if not find_spec("spandrel"):  # looked for and not imported, which may end the process here
        pytest.skip("spandrel is not installed")
    torch.save(repeating(3), tmp_path / "3x_Tiny.pth")
    choose(form, monkeypatch, tmp_path / "3x_Tiny.pth")
    qtbot.waitUntil(lambda: form.model.value == "3x_Tiny", timeout=LONG_MS)
    form._loaded((form._entries[:1], ["cpu"]))  # those of srpipe may be found later
    assert form.model.value == "3x_Tiny"
    assert form.scale.value == 3
    assert "Compact" in form.card.value
    assert not form.perception.enabled
    assert form.dial.value == ""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    add(viewer, form, pixels, name="small", rgb=True)
    click(form.button)
    np.testing.assert_array_equal(viewer.layers["small x3"].data, pixels.repeat(3, 0).repeat(3, 1))
    form.model.value = "toy-lite"  # what was there before still is
    assert form.scale.value == 2


def test_a_file_of_no_network_changes_nothing(form, qtbot, monkeypatch, tmp_path):
    from napari_sr import widget

    told = []
    monkeypatch.setattr(widget, "show_error", told.append)
    (tmp_path / "notes.pth").write_text("hello")
    choose(form, monkeypatch, tmp_path / "notes.pth")
    qtbot.waitUntil(lambda: bool(told), timeout=LONG_MS)
    assert "notes.pth" in told[0]
    assert "\n" not in told[0]
    assert form.model.value == "toy-lite"


def test_cancel_leaves_a_partial_layer_that_says_so(viewer, form, qtbot, slow_toy):
    pixels = np.full((64, 256), 7, np.uint8)
    add(viewer, form, pixels, name="long")
    form.tile.value = "64"
    form.button.native.click()
    qtbot.waitUntil(
        lambda: form._live._now is not None and form._live._now.done >= 2, timeout=LONG_MS
    )
    assert form.button.text == "Cancel"
    began = time.monotonic()
    form.button.native.click()
    qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)
    ended = time.monotonic() - began
    (result,) = (layer for layer in viewer.layers if "partial" in layer.name)
    assert "of 4 tiles" in result.name
    assert not result.metadata["srpipe"]["complete"]
    done = result.metadata["srpipe"]["record"]["tiles"]
    assert (done["done"], done["of"]) == (form._live.made[0].done, 4)
    values = [np.unique(result.data[:, x : x + 128]).tolist() for x in (0, 128, 384)]
    assert values == [[7], [7], [0]]
    assert ended < slow_toy + 0.5
    form.trust.native.click()
    qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)
    mask = next(layer for layer in viewer.layers if "validity" in layer.name)
    assert (np.asarray(mask.data)[:, -128:] == 5).all()


def test_the_window_stays_alive_while_a_network_runs(viewer, form, qtbot):
    from qtpy.QtCore import QTimer

    add(viewer, form, np.zeros((1024, 1024), np.uint8), name="busy")
    form.tile.value = "128"
    late, last = [], [time.monotonic()]

    def tick():
        now = time.monotonic()
        late.append(now - last[0] - 0.01)
        last[0] = now

    timer = QTimer()
    timer.setInterval(10)
    timer.timeout.connect(tick)
    timer.start()
    form.button.native.click()
    last[0] = time.monotonic()
    late.clear()
    qtbot.waitUntil(lambda: not form._live.busy, timeout=LONG_MS)
    timer.stop()
    # the target is 0.1 s on an idle machine; tests share theirs with others
    assert np.percentile(late, 95) <= 0.3


def test_a_layer_of_20_000_px_is_run_over_a_view_and_no_more(viewer, form, click):
    import dask.array as da

    read = []

    def part(block_info=None):
        place = block_info[None]["array-location"]
        read.append(place)
        return np.full([b - a for a, b in place], 9, np.uint16)

    data = da.map_blocks(
        part, chunks=((500,) * 40,) * 2, dtype=np.uint16, meta=np.empty((0, 0), np.uint16)
    )
    small = da.zeros((200, 200), dtype=np.uint16)
    layer = add(viewer, form, [data, small], name="huge", multiscale=True, contrast_limits=(0, 100))
    viewer.add_shapes([[[5010, 5010], [5010, 5060], [5040, 5060], [5040, 5010]]])
    form.shapes.reset_choices()
    form.layer.value = layer
    form.region.value = "rectangle"
    read.clear()
    click(form.button)
    result = next(each for each in viewer.layers if each.name == "huge x2")
    assert (np.asarray(result.data) == 9).all()
    assert 0 < len(read) <= 8


@pytest.fixture
def slow_toy(form, monkeypatch):
    """Seconds that each tile takes."""
    import toy

    forward = toy.Toy.forward

    def slow(self, x):
        time.sleep(0.4)
        return forward(self, x)

    monkeypatch.setattr(toy.Toy, "forward", slow)
    return 0.4
