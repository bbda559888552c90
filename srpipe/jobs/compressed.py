"""Whether it shows what a codec left of an input, and which network is made for that."""

from srpipe import zoo
from srpipe.io.picture import Picture
from srpipe.io.video import VideoSource

QUANTISER = 24
"""Of H.264, from which a network for clean pictures makes more of damage than of detail."""

QUALITY = 85
"""Of JPEG, up to which they do."""


def of_video(source: VideoSource, entry: zoo.Entry) -> tuple[str, ...]:
    """A sentence for who enlarges a strongly compressed video with a network for clean ones."""
    if source.quantiser is None or source.quantiser < QUANTISER:
        return ()
    return _advice(f"H.264 with a quantiser of {source.quantiser:.0f} (0 to 51)", entry)


def of_picture(picture: Picture, entry: zoo.Entry) -> tuple[str, ...]:
    """A sentence for who enlarges a strongly compressed picture with a network for clean ones."""
    if picture.quality is None or picture.quality > QUALITY:
        return ()
    return _advice(f"JPEG of a quality of about {picture.quality:.0f}", entry)


def _advice(what: str, entry: zoo.Entry) -> tuple[str, ...]:
    other = zoo.made_for("compressed", entry)
    if other is None:
        return ()
    return (
        f"{what}: the blocks and rings that this left are enlarged as well; --model"
        f" {zoo.shortest(other)} is made for that",
    )
