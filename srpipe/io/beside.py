"""Files beside a TIFF that say where on the ground it lies, as GDAL looks for them.

A world file holds the six numbers of an affine transform (scene.tfw beside scene.tif), and a file
of GDAL's own (scene.tif.aux.xml) whatever the format has no tags for.
"""

from collections.abc import Iterator
from pathlib import Path

_PLACES = (b"<GeoTransform>", b"<SRS", b"<GCPList")


def placing(path: Path) -> Iterator[Path]:
    """Those that are there."""
    ending = path.suffix[1:].lower()
    names = [f"{ending[0]}{ending[-1]}w", f"{ending}w", "wld"] if ending else ["wld"]
    for name in (*names, *map(str.upper, names)):
        world = path.with_suffix(f".{name}")
        if world.is_file():
            yield world
    more = path.with_name(f"{path.name}.aux.xml")
    if more.is_file() and any(word in more.read_bytes() for word in _PLACES):
        yield more
