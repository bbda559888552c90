"""Whether it shows what a codec left of an input, and which network is made for that."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf

from srpipe import zoo
from srpipe.io.picture import Picture
from srpipe.io.video import VideoSource
from srpipe.io.video_quantiser import H264, MPEG, VP9, quantiser

END = " is made for that"
"""Of a notice that advises a network."""

QUANTISERS = {H264: {2: 26, 4: 30}, MPEG: {2: 4, 4: 5}, VP9: {2: 150}}
"""By codec and scale, from which on a network for compressed pictures is nearer to the truth."""

QUALITY = 80
"""Of JPEG, up to which it is."""


def of_video(source: VideoSource, entry: zoo.Entry) -> tuple[str, ...]:
    """A sentence for who enlarges a strongly compressed video with a network for clean ones."""
    other = zoo.made_for("compressed", entry)
    found = quantiser(source) if other else None
    if other is None or found is None:
        return ()
    scale = found.scale
    if found.value < QUANTISERS[scale].get(other.scale, inf):
        return ()
    what = f"{scale.name} with a quantiser of {found.value:.0f} ({scale.least} to {scale.most})"
    return _advice(what, other)


def of_picture(picture: Picture, entry: zoo.Entry) -> tuple[str, ...]:
    """A sentence for who enlarges a strongly compressed picture with a network for clean ones."""
    if picture.quality is None or picture.quality > QUALITY:
        return ()
    other = zoo.made_for("compressed", entry)
    return _advice(f"JPEG of a quality of about {picture.quality:.0f}", other) if other else ()


def _advice(what: str, other: zoo.Entry) -> tuple[str, ...]:
    advice = f"--model {zoo.shortest(other)}{END}"
    return (f"{what}: the blocks and rings that this left are enlarged as well; {advice}",)


def of_files(notices: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """A sentence for each network that the notices of some files advise."""
    advised = (each.rpartition("; ")[2] for every in notices for each in every)
    counts = Counter(each for each in advised if each.endswith(END))
    return tuple(f"{n} of the files are strongly compressed; {each}" for each, n in counts.items())
