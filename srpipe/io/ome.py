"""The XML that says what is in an OME-TIFF, and the units of the two OME formats.

Schema: http://www.openmicroscopy.org/Schemas/OME/2016-06. What a file says and srpipe knows nothing
of (instrument, objective, acquisition) goes over as it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from srpipe.errors import MediaError
from srpipe.io.raster import RECORD, Band, Raster, Step, World

SPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
RECORD_ID = f"Annotation:{RECORD}"
SCHEMA = f"{SPACE} {SPACE}/ome.xsd"
PREFIXES = (
    {"yotta": "Y", "zetta": "Z", "exa": "E", "peta": "P", "tera": "T", "giga": "G", "mega": "M"}
    | {"kilo": "k", "hecto": "h", "": "", "deci": "d", "centi": "c", "milli": "m", "micro": "µ"}
    | {"nano": "n", "pico": "p", "femto": "f", "atto": "a", "zepto": "z", "yocto": "y"}
)
LENGTHS = {f"{prefix}meter": f"{symbol}m" for prefix, symbol in PREFIXES.items()}
LENGTHS |= {"angstrom": "Å", "inch": "in", "foot": "ft", "yard": "yd", "mile": "mi", "parsec": "pc"}
TIMES = {f"{prefix}second": f"{symbol}s" for prefix, symbol in PREFIXES.items()}
TIMES |= {"minute": "min", "hour": "h", "day": "d"}
UNITS = LENGTHS | TIMES
"""OME-Zarr's name of a unit, and the symbol that OME-XML has for it."""

DTYPES = {
    **{name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
    "float32": "float",
    "float64": "double",
}


def described(text: str, path: Path) -> Element:
    """The XML of a file whose pixels all lie in that file.

    Raises
    ------
    MediaError
        If it is not well-formed, or points to other files.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise MediaError(f"{path} has damaged OME-XML ({error}); fetch it again") from error
    ours = root.get("UUID")
    others = {_text(e) for e in root.iter() if _is(e, "UUID")} - {ours}
    if others or any(_is(e, "BinaryOnly") for e in root.iter()):
        raise MediaError(
            f"{path} is one of several files of a data set; convert them to one OME-TIFF or"
            " OME-Zarr first"
        )
    return root


def pixels_of(root: Element) -> Element:
    """The description of the first image's pixels."""
    return next(element for element in root.iter() if _is(element, "Pixels"))


def name(root: Element) -> str | None:
    """What the first image is called."""
    return _image(root).get("Name")


def description(root: Element) -> str | None:
    """What the first image is, in somebody's words."""
    return next((_text(e) for e in _image(root) if _is(e, "Description")), None)


def images(root: Element) -> int:
    """How many images it describes."""
    return sum(_is(element, "Image") for element in root)


def world(pixels: Element) -> World:
    """Where the pixels lie, as far as it says; their outer corner is the origin.

    Where it says so of X or of Y alone, the other is counted in pixels.
    """
    steps = {axis: _step(pixels, f"PhysicalSize{axis}", "µm") for axis in "XYZ"}
    time = _step(pixels, "TimeIncrement", "s")
    if not (steps["X"] or steps["Y"]):
        return World(depth=steps["Z"], time=time)
    x, y = steps["X"] or Step(), steps["Y"] or Step()
    return World(
        affine=(x.size, 0.0, 0.0, 0.0, y.size, 0.0),
        units=(y.unit, x.unit),
        depth=steps["Z"],
        time=time,
    )


def channels(pixels: Element) -> Iterator[Band]:
    """The channels, those of several samples once."""
    for element in pixels:
        if _is(element, "Channel"):
            color = element.get("Color")
            tint = f"{int(color) & 0xFFFFFFFF:08X}"[:6] if color else None
            yield Band(name=element.get("Name"), tint=tint)


def significant_bits(pixels: Element) -> int | None:
    """How many bits of a number are in use, where it says."""
    bits = pixels.get("SignificantBits")
    return int(bits) if bits else None


def written(raster: Raster, samples: int, before: str | None) -> bytes:
    """The XML for a raster that is stored plane after plane: Z fastest, then C, then T.

    Parameters
    ----------
    samples : per channel, stored together
    before : the XML of the raster that this one was made from
    """
    ElementTree.register_namespace("", SPACE)
    root = ElementTree.fromstring(before) if before else _skeleton(raster, samples)
    space = root.tag.partition("}")[0] + "}"
    ElementTree.register_namespace("", space[1:-1])
    root.attrib.pop("UUID", None)
    for extra in root.findall(f"{space}Image")[1:] + root.findall(f"{space}ROI"):
        root.remove(extra)
    image = root.find(f"{space}Image")
    assert image is not None
    for reference in image.findall(f"{space}ROIRef"):
        image.remove(reference)
    _update(pixels_of(root), raster, samples, space)
    if raster.record:
        _note(root, raster.record, space)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def record(root: Element) -> str | None:
    """The record that `written` put into the XML, if it did."""
    notes = (note for note in root.iter() if note.get("ID") == RECORD_ID)
    return next((_text(value) for note in notes for value in note), None)


def unit_of(symbol: str | None, known: Mapping[str, str] = UNITS) -> str | None:
    """OME-Zarr's name of a unit that OME-XML, or ImageJ, has as a symbol; None for unknown ones.

    Parameters
    ----------
    known : the units that it may be: `UNITS`, `LENGTHS` or `TIMES`
    """
    if symbol is None:
        return None
    plain = symbol.encode().replace(b"\\u00B5", "µ".encode()).decode().replace("μ", "µ")
    plain = {"um": "µm", "micron": "µm", "microns": "µm", "sec": "s"}.get(plain, plain)
    names = {symbol: name for name, symbol in known.items()}
    return names.get(plain, plain if plain in known else None)


def _image(root: Element) -> Element:
    return next(element for element in root if _is(element, "Image"))


def _skeleton(raster: Raster, samples: int) -> Element:
    root = Element(f"{{{SPACE}}}OME", {"Creator": f"srpipe {version('srpipe')}"})
    root.set("{http://www.w3.org/2001/XMLSchema-instance}schemaLocation", SCHEMA)
    image = ElementTree.SubElement(root, f"{{{SPACE}}}Image", {"ID": "Image:0"})
    if raster.name:
        image.set("Name", _plain(raster.name))
    if words := raster.own.get("description"):
        said = ElementTree.SubElement(image, f"{{{SPACE}}}Description")
        said.text = _plain(words)
    pixels = ElementTree.SubElement(image, f"{{{SPACE}}}Pixels", {"ID": "Pixels:0"})
    for i, band in enumerate(raster.bands[::samples]):
        about = {"ID": f"Channel:0:{i}", "SamplesPerPixel": str(samples)}
        if band.name:
            about["Name"] = _plain(band.name)
        if band.tint:
            rgba = int(f"{band.tint}FF", 16)
            about["Color"] = str(rgba - 2**32 if rgba >= 2**31 else rgba)
        ElementTree.SubElement(pixels, f"{{{SPACE}}}Channel", about)
    return root


def _update(pixels: Element, raster: Raster, samples: int, space: str) -> None:
    t, c, z, y, x = raster.shape
    sizes = {"SizeX": x, "SizeY": y, "SizeZ": z, "SizeC": c, "SizeT": t}
    order = {"DimensionOrder": "XYZCT", "Type": DTYPES[raster.dtype.name], "BigEndian": "false"}
    order["Interleaved"] = str(samples > 1).lower()
    pixels.attrib.update({name: str(size) for name, size in sizes.items()} | order)
    pixels.attrib.pop("SignificantBits", None)
    if raster.bits is not None and raster.dtype.kind != "f":
        pixels.set("SignificantBits", str(raster.bits))
    for name, step, unit in _steps(raster.world):
        pixels.set(name, repr(float(step)))
        pixels.set(f"{name}Unit", UNITS.get(unit, unit) if unit else "pixel")
    for old in [
        e for e in pixels if any(_is(e, n) for n in ("TiffData", "BinData", "MetadataOnly"))
    ]:
        pixels.remove(old)
    _regroup(pixels, c, samples)
    at = sum(_is(element, "Channel") for element in pixels)
    pages = t * z * c // samples
    pixels.insert(at, Element(f"{space}TiffData", {"IFD": "0", "PlaneCount": str(pages)}))


def _regroup(pixels: Element, count: int, samples: int) -> None:
    """Let channels have so many samples each; one of more becomes several that are alike."""
    before = [element for element in pixels if _is(element, "Channel")]
    stored = [int(channel.get("SamplesPerPixel", "1")) for channel in before]
    if not before or (set(stored) == {samples} and len(before) == count // samples):
        return
    of_sample = [old for old, n in zip(before, stored, strict=True) for _ in range(n)]
    of_sample += [before[-1]] * (count - len(of_sample))
    for old in before:
        pixels.remove(old)
    for i, old in enumerate(of_sample[:count:samples]):
        channel = deepcopy(old)
        channel.attrib |= {"ID": f"Channel:0:{i}", "SamplesPerPixel": str(samples)}
        pixels.insert(i, channel)


def _note(root: Element, record: str, space: str) -> None:
    """Put a record among the annotations, in place of an earlier one."""
    notes = root.find(f"{space}StructuredAnnotations")
    if notes is None:
        notes = ElementTree.Element(f"{space}StructuredAnnotations")
        images = [i for i, element in enumerate(root) if _is(element, "Image")]
        root.insert(images[-1] + 1, notes)
    for old in [note for note in notes if note.get("ID") == RECORD_ID]:
        notes.remove(old)
    about = {"ID": RECORD_ID, "Namespace": RECORD}
    note = ElementTree.SubElement(notes, f"{space}CommentAnnotation", about)
    ElementTree.SubElement(note, f"{space}Value").text = record


def _steps(world: World) -> Iterable[tuple[str, float, str | None]]:
    if world.affine:
        yield "PhysicalSizeX", world.affine[0], world.units[1]
        yield "PhysicalSizeY", world.affine[4], world.units[0]
    if world.depth:
        yield "PhysicalSizeZ", world.depth.size, world.depth.unit
    if world.time:
        yield "TimeIncrement", world.time.size, world.time.unit or "second"


def _step(pixels: Element, name: str, usual: str) -> Step | None:
    size = pixels.get(name)
    if size is None or not float(size) > 0:
        return None
    unit = pixels.get(f"{name}Unit", usual)
    return Step(size=float(size), unit=unit_of(unit) or (unit if unit != "pixel" else None))


def _plain(words: str) -> str:
    """Words without the characters that break XML."""
    return "".join(c for c in words if c.isprintable() or c in "\n\t")


def _is(element: Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _text(element: Element) -> str | None:
    return element.text.strip() if element.text else None
