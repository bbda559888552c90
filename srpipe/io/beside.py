"""Files beside a TIFF that GDAL reads with it: where it lies, and what of it holds nothing.

A world file holds the six numbers of an affine transform (scene.tfw beside scene.tif), a file of
GDAL's own (scene.tif.aux.xml) whatever the format has no tags for, another one the mask
(scene.tif.msk), and those of satellites' makers how the camera saw the ground (scene_RPC.TXT).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from srpipe.errors import TargetError

_CLASSES = (b"<CategoryNames", b'tableType="thematic"')
_OURS = (
    *(b"<GeoTransform>", b"<SRS", b"<GCPList", b'domain="RPC"', b"<NoDataValue", b"<ColorInterp>"),
    *(b"<Offset>", b"<Scale>", b"<UnitType>", b"<Description>", *_CLASSES),
)
"""Of what GDAL's own file may hold, what is said of the pixels here; it may be only statistics."""


def sidecars(path: Path) -> Iterator[Path]:
    """Those that are there."""
    ending = path.suffix[1:].lower()
    names = [f"{ending[0]}{ending[-1]}w", f"{ending}w", "wld"] if ending else ["wld"]
    cameras = ("_RPC.TXT", "_rpc.txt", ".RPB", ".rpb")
    for other in (
        *(path.with_suffix(f".{name}") for name in (*names, *map(str.upper, names))),
        *(path.with_name(f"{path.stem}{name}") for name in cameras),
        path.with_name(f"{path.name}.msk"),
    ):
        if os.path.isfile(other):  # not where its name would be too long for a file
            yield other
    if _says(path, _OURS):
        yield gdals_own(path)


def refuse_stale(target: Path) -> None:
    """See that nothing lies there that would be read together with a file that is to come.

    Raises
    ------
    TargetError
        If something does.
    """
    stale = ", ".join(file.name for file in sidecars(target))
    if stale:
        raise TargetError(
            f"{target} would be read together with {stale}, which lies there already and is not of"
            " it; remove that, or write to another name"
        )


def gdals_own(path: Path) -> Path:
    """Where GDAL puts what a format has no tags for."""
    return path.with_name(f"{path.name}.aux.xml")


def names_classes(path: Path) -> bool:
    """Whether GDAL's own file says that the numbers are those of classes."""
    return _says(path, _CLASSES)


def _says(path: Path, words: Sequence[bytes]) -> bool:
    """Whether there is such a file, with one of these words in it."""
    own = gdals_own(path)
    return os.path.isfile(own) and any(word in own.read_bytes() for word in words)
