"""A folder of pictures as training pairs on the device, and random batches drawn from them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor

from srpipe.errors import ConfigError, MediaError
from srpipe.metrics import WINDOW
from training import recipe
from training.clock import Every
from training.degrade import REDUCTIONS, REVISION, as_tensor, cropped, noisy, recompressed
from training.pack import Pack, kept
from training.pictures import (
    copies,
    held_out,
    likeness,
    pictures,
    read_image,
    turned,
)
from training.replay import sent

TOLD_EVERY_S = 10
"""Between two lines that tell how far the first pass over a folder is."""

TAKES = 6
"""Videos that each picture is a frame of, where it is of any."""

VALIDATED, VALIDATED_SIDE = 8, 512
"""How many pictures are validated with, and how many rows and columns of each at most."""


@dataclass(frozen=True)
class Pairs:
    """High-resolution images with the low-resolution ones made from them.

    Parameters
    ----------
    left_out : how many pictures are not among them because they are copies of held-out ones
    mark : of all pictures, the held-out ones too, and of which are which
    frames : the low-resolution ones as frames of videos, `TAKES` of each, one after the other
    """

    low: Pack
    high: Pack
    scale: int
    left_out: int = 0
    mark: str = ""
    frames: Pack | None = None

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs in another device's memory."""
        frames = self.frames and self.frames.to(device)
        return replace(self, low=self.low.to(device), high=self.high.to(device), frames=frames)

    def state_dict(self) -> dict[str, str]:
        """What they are, for a checkpoint."""
        return {"mark": self.mark}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Refuse to take the place of others.

        Raises
        ------
        ConfigError
            If a checkpoint was made with other images.
        """
        if state["mark"] != self.mark:
            raise ConfigError(
                "this run was begun with other pictures than data.folder holds now; put those back"
                " or choose another run folder"
            )

    def batches(
        self, data: recipe.Data, chance: Generator, *, rank: int = 0, of: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches of low (patch / scale) and high (patch) squares, as the recipe says.

        Images are drawn by their area, so that every pixel is equally likely; the generator alone
        decides, so that its state is the position in the data. Every one of several processes
        draws the whole batch and gets its share: with ``rank`` 0 of 2, each second square.
        """
        mine = slice(rank, None, of)
        side = data.patch // self.scale
        heights, widths = self.low.heights.cpu(), self.low.widths.cpu()
        area = (heights * widths).double()  # on the CPU, since MPS has no such numbers
        while True:
            chosen = torch.multinomial(area, data.batch, replacement=True, generator=chance)
            place = torch.rand(2, data.batch, generator=chance, dtype=torch.float64)
            turns = torch.randint(8, (data.batch,), generator=chance)
            tops = (place[0] * (heights[chosen] - side + 1)).long()
            lefts = (place[1] * (widths[chosen] - side + 1)).long()
            drawn = torch.stack((chosen, tops, lefts, turns))
            chosen, tops, lefts, turns = sent(drawn, self.low.pixels.device)
            low = _disturbed(self.low.crops(chosen, tops, lefts, side, turns), data, chance)
            if self.frames:
                take = torch.randint(TAKES, (data.batch,), generator=chance)
                filmed = torch.rand(data.batch, 1, 1, 1, generator=chance) < _share(data)
                frame = TAKES * chosen + sent(take, chosen.device)
                frames = self.frames.crops(frame, tops, lefts, side, turns)
                low = torch.where(sent(filmed, low.device), frames, low)
            tops, lefts = tops[mine] * self.scale, lefts[mine] * self.scale
            high = self.high.crops(chosen[mine], tops, lefts, data.patch, turns[mine])
            yield low[mine], high


def silent(text: str) -> None:
    """Tell nobody."""


def load(
    data: recipe.Data,
    scale: int,
    device: torch.device,
    tell: Callable[[str], None] = silent,
) -> tuple[Pairs, list[tuple[Tensor, Tensor]]]:
    """Training pairs on the device, and images (1, 3, H, W), low and high, to validate with.

    Decoded and reduced pictures are kept in files, which are written anew when a picture of the
    folder came, went or changed. No picture that is held out, and no copy of one, turned or not,
    is trained on.

    Parameters
    ----------
    tell : given a line now and then while files are written

    Raises
    ------
    ConfigError
        If the folder holds no pictures, too few, or one that is smaller than the patch.
    MediaError
        If a picture cannot be read.
    """
    paths = pictures(data.folder)
    folder = data.folder.resolve()
    whole = hashlib.sha256(os.fsencode(folder)).hexdigest()
    stem = f"{os.fsencode(folder.name).decode(errors='replace')}-{whole[:8]}"
    mark = _fingerprint(data.folder, paths)
    told = partial(_told, count=len(paths), tell=tell)

    def decoded(first: int) -> Iterable[Tensor]:
        return map(read_image, paths[first:])

    high = kept(data.cache / f"{stem}.u8", mark, told("pictures decoded", decoded))
    _check_patch(data.patch, scale, high, paths)
    shrink = REDUCTIONS[data.reduction]

    def reduced(first: int) -> Iterable[Tensor]:
        return (shrink(image.to(device), scale).cpu() for image in _cropped(high, scale, first))

    low = kept(
        data.cache / f"{stem}-x{scale}-{data.reduction}.u8",
        f"{mark} {scale} {data.reduction} {REVISION}",
        told("pictures reduced", reduced),
    )
    frames = None
    if data.h264[1]:
        from training import h264  # with PyAV, which all else in training does without

        filmed = partial(_taken, h264.filmed, high, scale, data, device)
        frames = kept(
            data.cache / f"{stem}-x{scale}-{data.reduction}-h264-{_spelled(data)}.u8",
            f"{mark} {scale} {data.reduction} {REVISION} {_spelled(data)} {TAKES} {h264.REVISION}",
            told("frames of videos", filmed, each=TAKES),
        )
    train, apart = _split(data, paths, low)
    _check_window(scale, low, [(i, paths[i]) for i in apart[:VALIDATED]])
    left_out = len(paths) - len(train) - len(apart)
    chance, as_is = Generator().manual_seed(0), replace(data, noise=(0, 0), jpeg=(0, 0))
    held = [_validated(high.image(i), low.image(i), scale, data, chance) for i in apart[:VALIDATED]]
    if frames:  # all of them, or every other
        for place in range(0, len(held), round(1 / _share(data))):
            i = apart[place]
            held[place] = _validated(high.image(i), frames.image(TAKES * i), scale, as_is, chance)
    which = hashlib.sha256(f"{train} {apart} {high.heights.tolist()}".encode())
    which.update(high.pixels.numpy().data)
    takes = [TAKES * i + take for i in train for take in range(TAKES)]
    pairs = Pairs(
        low=low.only(train),
        high=high.only(train),
        scale=scale,
        left_out=left_out,
        mark=which.hexdigest(),
        frames=frames and frames.only(takes),
    )
    return pairs.to(device), held


def _fingerprint(folder: Path, paths: Sequence[Path]) -> str:
    """Of the names, sizes and times of files."""
    facts = ((p.relative_to(folder), p.stat()) for p in paths)
    try:
        lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in facts]
    except OSError as error:
        raise MediaError(
            f"{error.filename} cannot be read ({error.strerror}); remove it"
        ) from error
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def _check_patch(patch: int, scale: int, high: Pack, paths: Sequence[Path]) -> None:
    if patch % scale:
        raise ConfigError(
            f"a patch of {patch} px cannot be reduced by {scale}; use a multiple of {scale}"
        )
    sides = torch.minimum(high.heights, high.widths) // scale * scale
    if patch > sides.min():
        least, count = int(sides.argmin()), int((sides < patch).sum())
        raise ConfigError(
            f"a patch of {patch} px does not fit into {count} of {len(paths)} pictures, of which"
            f" {paths[least]} is {int(high.widths[least])} x {int(high.heights[least])} px; use a"
            " smaller data.patch, or remove such pictures"
        )


def _check_window(scale: int, low: Pack, held: Sequence[tuple[int, Path]]) -> None:
    for index, path in held:
        side = scale * (int(min(low.heights[index], low.widths[index])) - 2)
        if side < WINDOW:
            raise ConfigError(
                f"{path} is held out for validation, which needs {WINDOW + 2 * scale} px of each"
                " side; remove it, or change data.holdout"
            )


def _split(data: recipe.Data, paths: Sequence[Path], low: Pack) -> tuple[list[int], list[int]]:
    """Which pictures are trained on, and which are only looked at."""
    apart = held_out(paths, data.holdout)
    train = sorted(set(range(len(paths))) - set(apart))
    if train and apart:
        looks = [likeness(low.image(i)) for i in train]
        again = copies(looks, [likeness(each) for i in apart for each in turned(low.image(i))])
        train = [i for i, is_copy in zip(train, again, strict=True) if not is_copy]
    if not (train and apart):
        raise ConfigError(
            f"a holdout of {data.holdout} leaves {len(train)} pictures to train on and"
            f" {len(apart)} to validate with; both need one: change data.holdout or add pictures"
        )
    return train, apart


def _validated(
    high: Tensor, low: Tensor, scale: int, data: recipe.Data, chance: Generator
) -> tuple[Tensor, Tensor]:
    side = VALIDATED_SIDE // scale
    low = low[:side, :side]
    high = high[: low.shape[0] * scale, : low.shape[1] * scale]
    return _disturbed(as_tensor(low), data, chance), as_tensor(high)


def _cropped(high: Pack, scale: int, first: int) -> Iterator[Tensor]:
    return (cropped(high.image(i), scale) for i in range(first, len(high)))


def _taken(
    filmed: Callable[..., Tensor],
    high: Pack,
    scale: int,
    data: recipe.Data,
    device: torch.device,
    first: int,
) -> Iterator[Tensor]:
    """Each image in low resolution as a frame of a video, `TAKES` times, all of these at once.

    Those from the number ``first`` on.
    """

    def take(image: Tensor, seed: int) -> Tensor:
        chance = Generator().manual_seed(seed)
        how = {"factors": data.h264, "noise": data.noise, "chance": chance}
        return filmed(image, scale, data.reduction, **how).cpu()

    with ThreadPoolExecutor() as pool:
        begun = first // TAKES
        for number, image in enumerate(_cropped(high, scale, begun), begun):
            seeds = range(max(number * TAKES, first), (number + 1) * TAKES)
            yield from pool.map(take, [image.to(device)] * len(seeds), seeds)


def _spelled(data: recipe.Data) -> str:
    """What a video is encoded with, and the noise before that, as a part of a file's name."""
    return "-".join(f"{each:g}" for each in (*data.h264, *data.noise))


def _told(
    what: str,
    images: Callable[[int], Iterable[Tensor]],
    *,
    count: int,
    tell: Callable[[str], None],
    each: int = 1,
) -> Callable[[int], Iterator[Tensor]]:
    """The images from a number on, and every few seconds how many of them there were."""

    def found(first: int) -> Iterator[Tensor]:
        due = Every(TOLD_EVERY_S)
        for done, image in enumerate(images(first), first + 1):
            yield image
            if due():
                tell(f"{what}: {done} of {count * each}")

    return found


def _share(data: recipe.Data) -> float:
    """Of the squares, those that are of frames of videos."""
    return 0.5 if data.jpeg[1] else 1.0


def _disturbed(low: Tensor, data: recipe.Data, chance: Generator) -> Tensor:
    if data.noise[1]:
        low = noisy(low, data.noise, chance)
    if data.jpeg[1]:
        low = recompressed(low, data.jpeg, chance)
    return low
