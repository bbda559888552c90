"""The dock widget: a form around library calls, and what there is to look at afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FloatSlider,
    Label,
    PushButton,
    create_widget,
)
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_sr import compat
from napari_sr.compare import WAYS, Comparison
from napari_sr.layers import RANGES, box_of, plane_of, range_of, stack_of, usual_range
from napari_sr.live import Failed, Live, Made
from napari_sr.region import REGIONS
from srpipe.errors import ConfigError, SrpipeError
from srpipe.settings import Precision, RunSettings

TILES = ("auto", "64", "128", "256", "512", "1024", "2048")

FILES = "Weights (*.safetensors *.pth *.pt *.ckpt *.json);;All files (*)"
"""What the dialog for a network's file shows."""

_WAITING = "…"

if TYPE_CHECKING:
    import napari

    from napari_sr.maps import Pair
    from napari_sr.run import Wish


class SuperResolution(Container):
    """Enlarge a layer, and see what became of it."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        self._viewer = viewer
        self._entries: list[Any] = []
        self._devices: list[str] = []
        self._comparison = Comparison(viewer)
        super().__init__(widgets=self._form(), labels=True)
        self._live = Live(viewer, self.native, self._tell, self._changed)
        self._connect()
        self._layer_chosen()
        self._changed()
        self._look_for_networks()

    def _form(self) -> list[Any]:
        self.layer: Any = create_widget(annotation="napari.layers.Image", label="layer")
        self.layer.tooltip = "What is enlarged; rows and columns are its last two axes."
        self.model = ComboBox(
            label="model", choices=self._models, tooltip="Which network enlarges."
        )
        self.file = PushButton(
            text="From a file …",
            tooltip="A card, or the weights of any network that spandrel knows.",
        )
        self.card = Label(value="Looking for networks …")
        self.scale = ComboBox(
            label="scale",
            choices=self._scales,
            tooltip="Output pixels per input pixel, along each side.",
        )
        self.perception = FloatSlider(
            label="perception",
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="0 keeps to what was measured, 1 looks sharpest.",
        )
        self.dial = Label(value="")
        self.region = ComboBox(
            label="region",
            choices=REGIONS,
            tooltip="All but the whole layer are of the slice that is shown.",
        )
        self.shapes: Any = create_widget(annotation="napari.layers.Shapes", label="drawn in")
        self.range = ComboBox(
            label="black, white",
            choices=RANGES,
            tooltip="What is 0 and 1 to the network. Numbers beyond are not cut off.",
        )
        self.precision = ComboBox(label="precision", choices=get_args(Precision))
        self.device = ComboBox(label="device", choices=lambda _: ("auto", *self._devices))
        self.tile = ComboBox(
            label="tile",
            choices=TILES,
            value=_tile(compat.preference("tile", 0)),
            tooltip="Side of the tiles that appear one by one, in input pixels.",
        )
        self.button = PushButton(text="Run")
        self.status = Label(value="")
        self.gradients = PushButton(text="Gradient maps")
        self.trust = PushButton(text="Trust maps")
        self.doubt = CheckBox(
            text="with model disagreement (8 times slower)", label="", value=False
        )
        self.compare = ComboBox(label="compare", choices=WAYS)
        self.fade = FloatSlider(label="input ↔ result", min=0.0, max=1.0, value=1.0, step=0.01)
        self.buttons = _row(self.gradients, self.trust)
        return [
            self.layer,
            _row(self.model, self.file, label="model"),
            _row(self.card),
            self.scale,
            self.perception,
            _row(self.dial),
            self.region,
            self.shapes,
            self.range,
            self.precision,
            self.device,
            self.tile,
            self.button,
            _row(self.status),
            self.buttons,
            self.doubt,
            self.compare,
            self.fade,
        ]

    def _connect(self) -> None:
        for label in (self.card, self.dial, self.status):
            words: QLabel = label.native
            words.setWordWrap(True)
            words.setMinimumWidth(240)
        self.layer.changed.connect(self._layer_chosen)
        self.model.changed.connect(self._model_chosen)
        self.file.clicked.connect(self._choose_file)
        self.scale.changed.connect(self._scale_chosen)
        self.perception.changed.connect(self._tell_dial)
        self.region.changed.connect(self._region_chosen)
        self.button.clicked.connect(self._run_or_stop)
        self.gradients.clicked.connect(self._gradients)
        self.trust.clicked.connect(self._trust)
        self.compare.changed.connect(self._compare)
        self.fade.changed.connect(self._fade)
        self._region_chosen()

    def _look_for_networks(self) -> None:
        """Look for networks and devices in a thread: it imports PyTorch, which takes seconds."""
        create_worker(_found, _connect={"returned": self._loaded})

    def _loaded(self, found: tuple[list[Any], list[str]] | Failed) -> None:
        if isinstance(found, Failed):
            show_error(found.text)
            return
        entries, self._devices = found
        self._entries = _one_of_each([*entries, *self._entries])
        for widget in (self.device, self.model, self.scale):
            widget.reset_choices()
        wanted = compat.preference("device", "auto")
        self.device.value = wanted if wanted in self.device.choices else "auto"
        self._scale_chosen()
        self._changed()

    @property
    def _entry(self) -> Any:
        """The network that is chosen; None where there is none."""
        return next((e for e in self._fitting() if e.scale == self.scale.value), None)

    def _models(self, _: Any) -> tuple[str, ...]:
        from srpipe.zoo import called

        return tuple(dict.fromkeys(map(called, self._entries))) or (_WAITING,)

    def _scales(self, _: Any) -> tuple[Any, ...]:
        return tuple(sorted(entry.scale for entry in self._fitting())) or (_WAITING,)

    def _fitting(self) -> list[Any]:
        """The networks of the chosen name, one for each scale."""
        from srpipe.zoo import called

        return [entry for entry in self._entries if called(entry) == self.model.value]

    def _model_chosen(self) -> None:
        self.scale.reset_choices()
        self._scale_chosen()

    def _choose_file(self) -> None:
        """Ask for a file, and read it in a thread."""
        path, _filter = QFileDialog.getOpenFileName(self.native, "A network", "", FILES)
        if path:
            create_worker(_in_file, path, _connect={"returned": self._found_in_file})

    def _found_in_file(self, entry: Any) -> None:
        """Choose the network of a file; it takes the place of one that is called the same."""
        from srpipe.zoo import called

        if isinstance(entry, Failed):
            show_error(entry.text)
            return
        self._entries = _one_of_each([*self._entries, entry])
        self.model.reset_choices()
        self.model.value = called(entry)
        self._model_chosen()
        self.scale.value = entry.scale
        self._changed()

    def _scale_chosen(self) -> None:
        from napari_sr.card import card

        entry = self._entry
        if entry is None:
            self.card.value = "Looking for networks …" if not self._entries else "No such network."
            return
        self.card.value = card(entry)
        self.perception.enabled = len(entry.stages) == 2
        if len(entry.stages) < 2:
            self.perception.value = float("perception" in entry.stages)
        self._tell_dial()

    def _tell_dial(self) -> None:
        from napari_sr.card import dial

        if self._entry is not None:
            self.dial.value = dial(self._entry, self.perception.value)

    def _layer_chosen(self) -> None:
        layer = self.layer.value
        if layer is not None:
            self.range.value = usual_range(layer)

    def _region_chosen(self) -> None:
        self.shapes.visible = self.region.value == "rectangle"

    def _run_or_stop(self) -> None:
        if self._live.busy:
            self._live.stop()
            return
        try:
            wish = self._wish()
            from napari_sr.run import planned

            plan = planned(wish)
        except SrpipeError as error:
            self._tell("")  # what is said there is of something else
            show_error(str(error))
            return
        self._live.run(wish, plan, self.layer.value)

    def _wish(self) -> "Wish":
        """What the form asks for."""
        from napari_sr.placing import lost_of
        from napari_sr.run import Wish

        layer, entry = self.layer.value, self._entry
        if layer is None:
            raise ConfigError("there is no image to enlarge; open one, or a sample of srpipe")
        if entry is None:
            raise ConfigError("no network is there yet; wait until the list of models is filled")
        raster = layer.metadata.get("raster")
        if getattr(raster, "masked", False):
            raise lost_of("a validity mask")  # numbers under it would reach those beside it
        return Wish(
            stack=stack_of(layer),
            box=box_of(layer, self.region.value, self._viewer, self.shapes.value),
            within=range_of(layer, self.range.value),
            settings=RunSettings(
                model=entry.model,
                scale=entry.scale,
                perception=self.perception.value if entry.stages else None,
                precision=self.precision.value,
                device=self.device.value,
                tile=self.tile.value if self.tile.value == "auto" else int(self.tile.value),
                weights=_weights(),
            ),
            nodata=getattr(raster, "nodata", None),
            labels=tuple(layer.axis_labels),
            folder=_folder(compat.preference("cache", "")),
        )

    def _gradients(self) -> None:
        from napari_sr.views import gradients

        def make(made: Made, pair: "Pair", plane: tuple[int, ...]) -> Any:
            return lambda _engine, asked: gradients(pair, plane, asked)

        self._maps(make, "Gradient maps")

    def _trust(self) -> None:
        from napari_sr.views import judged

        doubt = self.doubt.value

        def make(made: Made, pair: "Pair", plane: tuple[int, ...]) -> Any:
            return lambda engine, asked: judged(pair, plane, engine, asked, doubt=doubt)

        self._maps(make, "Trust maps")

    def _maps(self, make: Any, title: str) -> None:
        from napari_sr.maps import Pair

        made = self._live.result(self.layer.value)
        if made is None:
            show_error("there is no result yet; run first")
            return
        pair = Pair(made.wish, made.plan, stack_of(made.layer), made.done)
        plane = plane_of(made.layer, made.wish.box, self._viewer)
        self._live.maps(made, make(made, pair, plane), title)

    def _compare(self) -> None:
        way, made = self.compare.value, self._live.result(self.layer.value)
        self.fade.visible = way == "blend"
        if way == WAYS[0]:
            self._comparison.show(way, ())
        elif made is None:
            show_error("there is no result to compare yet; run first")
            self.compare.value = WAYS[0]
        else:
            self._comparison.show(way, made.every if way == "every map" else made.names)
            self._fade()

    def _fade(self) -> None:
        made = self._live.result(self.layer.value)
        if made is not None and self.compare.value == "blend":
            self._comparison.fade(made.layer, self.fade.value)

    def _tell(self, text: str) -> None:
        self.status.value = text

    def _changed(self) -> None:
        """The form says what can be done now."""
        busy = self._live.busy
        self.button.text = "Cancel" if busy else "Run"
        self.button.enabled = busy or bool(self._entries)
        self.gradients.enabled = self.trust.enabled = not busy
        self.fade.visible = self.compare.value == "blend"


def _row(*widgets: Any, label: str = "") -> Container:
    """Widgets beside each other; without a label, over the whole width of the form."""
    row = Container(widgets=widgets, layout="horizontal", labels=False, label=label)
    row.margins = (0, 0, 0, 0)
    return row


def _found() -> tuple[list[Any], list[str]] | Failed:
    """Networks, and names of devices; or what stands in the way."""
    from srpipe import zoo
    from srpipe.device import devices

    try:
        return zoo.entries(_weights()), devices()
    except SrpipeError as error:
        return Failed(str(error))


def _one_of_each(entries: list[Any]) -> list[Any]:
    """The last one of each name: what the user chose stands behind what was found."""
    return list({entry.name: entry for entry in entries}.values())


def _in_file(path: str) -> Any:
    """The network in a file; or what stands in the way."""
    from srpipe import zoo

    compat.spare_triton()
    try:
        return zoo.find(path)
    except SrpipeError as error:
        return Failed(str(error))


def _weights() -> Path | None:
    """A folder of weights of the user's own, in place of those of srpipe."""
    return _folder(compat.preference("weights", ""))


def _tile(side: int) -> str:
    """The tile that the user set for all runs, where there is one."""
    return str(side) if str(side) in TILES else "auto"


def _folder(text: str) -> Path | None:
    return Path(text).expanduser() if text else None
