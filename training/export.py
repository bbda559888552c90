"""Weights for use: float16, with a card that says what they are and what was proven of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srpipe import zoo
from srpipe.models import MODELS
from srpipe.models.pooling import held, whole
from srpipe.pixels import from_unit
from srpipe.precision import DTYPES, lower, native, whole_float32
from training.generator import terms
from training.recipe import Recipe, to_dict
from training.validate import validate

HALF_LEVEL = 0.5 / 255
"""The change of an output that counts, in [0, 1]."""

CENTRINGS = 4
"""How often the last bias is corrected at most: once, but where a curve follows it."""

PROOF_SIDE = 32
"""Pixels of each side of a sample on which a precision is proven that the device emulates."""

PATHS = (
    ("data", "folder"),
    ("data", "cache"),
    ("losses", "vgg"),
    ("losses", "lpips_backbone"),
)
"""What of a recipe is of the machine that it ran on, but for its last part."""


def export(
    recipe: Recipe,
    state: Mapping[str, Tensor],
    spent: dict[str, Any],
    samples: Sequence[tuple[Tensor, Tensor]],
    trained: Iterable[tuple[Tensor, Tensor]],
    folder: Path,
) -> Path:
    """Write weights and card into a folder; the card's path comes back.

    Parameters
    ----------
    spent : steps, seconds and what else is worth knowing of the run
    samples : images (1, 3, H, W) in low and in high resolution that the network was not trained
        on; its figures, its effective halo and the precisions that serve are measured on them, on
        the device that they are on
    trained : squares (N, 3, H, W), low and high, there as well, of those that it was trained on;
        its mean colour, which losses that compare features overlook, is corrected by them where
        there was one
    """
    model = recipe.model
    spec = MODELS[model.family]
    options = spec.presets[model.preset]
    network = spec.build(scale=model.scale, **options).eval().requires_grad_(False)
    device = samples[0][0].device
    network.to(device).load_state_dict(state)
    lows = [low for low, _high in samples]
    reach = spec.halo(scale=model.scale, **options)
    with whole_float32(device):
        if recipe.losses.perceptual or recipe.losses.lpips:
            centre(network, list(trained))
        # what may run in bfloat16 is rounded to it here, so that it is the same everywhere
        state = {k: v.half() for k, v in lower(network, torch.bfloat16).state_dict().items()}
        network.load_state_dict(state)
        found = validate(network, samples, model.scale, edges=spec.gradient)
        halo = _halo(network, lows, spec.alignment, reach)
        precisions = proven(network, lows)
    figures = {
        "held_out_psnr_y": round(found.psnr, 3),
        "held_out_ssim_y": round(found.ssim, 4),
    }
    if not math.isfinite(found.psnr):  # as of a black picture, and JSON has no number for it
        del figures["held_out_psnr_y"]
    card = zoo.Card(
        family=model.family,
        preset=model.preset,
        scale=model.scale,
        stage=model.stage,
        source=model.source,
        options=dict(options),
        parameters=sum(p.numel() for p in network.parameters()),
        halo=halo,
        precisions=precisions,
        training={"recipe": _portable(recipe), "spent": {**spent, **figures}},
        files=zoo.store(state, folder, model.stem),
        folder=folder,
    )
    return card.write()


def _halo(network: nn.Module, images: Sequence[Tensor], alignment: int, reach: int) -> int:
    """The largest effective halo, or the whole reach where no image was large enough to tell."""
    found = [(effective_halo(network, x, alignment), _room(x, alignment)) for x in images]
    most = max(halo for halo, _room in found)
    told = any(halo == most < room for halo, room in found)
    return min(most, reach) if told else reach


def _room(image: Tensor, alignment: int) -> int:
    """The largest radius, a multiple of the alignment, that is looked for in an image."""
    side = min(image.shape[-2:]) // alignment * alignment
    return side // 2 // alignment * alignment


def _portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe without the paths of the machine that it ran on."""
    facts = to_dict(recipe)
    for section, key in PATHS:
        facts[section][key] = Path(facts[section][key]).name
    facts["model"]["start"] = " ".join(Path(term).name for term in terms(recipe.model.start))
    return facts


@torch.inference_mode()
def centre(network: nn.Module, samples: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Add to the last bias what the mean colour is off by, per channel, over what a step adds.

    The features that a perceptual loss compares hardly know brightness: after that stage, pictures
    were up to 3.5 levels darker, nearly all by the same amount. It is the median that is corrected:
    by the mean, one picture of 8, a halftone that was 21 levels too dark, kept all others too
    bright.

    Parameters
    ----------
    samples : images (N, 3, H, W) in low and in high resolution
    """
    bias = network.get_parameter("tail.bias")
    off, slope = _off(network, samples), torch.ones_like(bias)
    for _ in range(CENTRINGS):
        if off.abs().max() < HALF_LEVEL / 10:
            break
        step = off / slope
        bias.add_(step)
        before, off = off, _off(network, samples)
        slope = ((before - off) / step).nan_to_num(1).clamp(0.1, 1)


def _off(network: nn.Module, samples: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What the mean colour of the middle one of all images is too dark by, shape (3,)."""
    return torch.cat([(high - network(low)).mean((2, 3)) for low, high in samples]).median(0).values


@torch.inference_mode()
def effective_halo(network: nn.Module, image: Tensor, alignment: int) -> int:
    """The radius beyond which the input moves the output by less than half an 8-bit level.

    Statistics of the whole image are held: tiles share them, however far apart they are.

    Everything farther than the radius from the middle is replaced by the image turned upside
    down, and the change in the middle is looked at: the smallest radius, a multiple of the
    alignment, at which no pixel of the middle moves by more; at most half the image, which is no
    proof: nothing lies beyond it.
    """
    height, width = (side // alignment * alignment for side in image.shape[-2:])
    image = image[..., :height, :width]
    other = image.flip(-2, -1)
    top, left = (side // 2 // alignment * alignment for side in (height, width))
    with held(network, whole(network, image)):
        wanted = network(image)
        scale = wanted.shape[-1] // width
        core = (
            ...,
            slice(top * scale, (top + alignment) * scale),
            slice(left * scale, (left + alignment) * scale),
        )
        low, high = 0, _room(image, alignment) // alignment
        while low < high:  # the smallest radius that is enough, by bisection
            guess = (low + high) // 2
            mixed = other.clone()
            near = (
                ...,
                slice(top - guess * alignment, top + (guess + 1) * alignment),
                slice(left - guess * alignment, left + (guess + 1) * alignment),
            )
            mixed[near] = image[near]
            enough = (network(mixed)[core] - wanted[core]).abs().max() < HALF_LEVEL
            low, high = (low, guess) if enough else (guess + 1, high)
    return low * alignment


@torch.inference_mode()
def proven(network: nn.Module, samples: Sequence[Tensor]) -> tuple[str, ...]:
    """The precisions in which no 8-bit value is more than one level from float32's.

    Where the device has no units for a precision, it takes a hundred times as long: there only the
    first `PROOF_SIDE` rows and columns of each sample are looked at.
    """
    return tuple(n for n in DTYPES if n == "fp32" or _serves(network, n, samples))


def _serves(network: nn.Module, precision: str, samples: Sequence[Tensor]) -> bool:
    """Whether it is within one level."""
    lowered = lower(network, DTYPES[precision])
    if not native(samples[0].device, precision):
        samples = [x[..., :PROOF_SIDE, :PROOF_SIDE] for x in samples]
    pairs = ([from_unit(each(x), 8).int() for each in (network, lowered)] for x in samples)
    return all((found - wanted).abs().max() <= 1 for wanted, found in pairs)
