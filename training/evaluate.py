"""Measure weights on folders of high-resolution pictures: ``python -m training.evaluate``.

The protocol of the literature: the truth is cropped at the top left to a multiple of the scale,
reduced as MATLAB does, and rounded to 8 bits; the result is clamped and rounded to 8 bits; a
border of `scale` pixels is left out. Means are over images.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from srpipe import zoo
from srpipe.errors import ConfigError, SrpipeError, WeightsError
from srpipe.metrics import luma, mean, psnr, ssim
from srpipe.pixels import from_unit, to_unit
from srpipe.resample import enlarge
from training.data import pictures, read_image
from training.degrade import as_tensor, bicubic, cropped

PROTOCOL = (
    "HR cropped to a multiple of the scale, LR by MATLAB's bicubic in 8 bits, result in 8 bits,"
    " border of `scale` px left out; PSNR and SSIM of BT.601 luma; mean over images"
)

Metric = Callable[[Tensor, Tensor], float]


def measure(
    enlarger: Callable[[Tensor], Tensor], folder: Path, scale: int, lpips: Metric | None = None
) -> dict[str, float]:
    """Mean metrics of an enlarger over the pictures of a folder.

    Parameters
    ----------
    enlarger : low-resolution (1, 3, H, W) in [0, 1] to (1, 3, H * scale, W * scale)
    lpips : a distance of two images, where it is wanted
    """
    found: dict[str, list[float]] = {}
    for path in pictures(folder):
        image = cropped(read_image(path), scale)
        truth = as_tensor(image)
        with torch.inference_mode():
            result = to_unit(from_unit(enlarger(as_tensor(bicubic(image, scale))), 8), 8)
        inner = (..., slice(scale, -scale), slice(scale, -scale))
        a, b = result[inner], truth[inner]
        values = {
            "psnr_y": float(psnr(luma(a), luma(b))),
            "ssim_y": float(ssim(luma(a), luma(b))),
            "psnr_rgb": float(psnr(a, b)),
        }
        if lpips is not None:
            values["lpips_squeeze"] = lpips(a, b)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: round(mean(values), 4) for name, values in found.items()}


def lpips_squeeze(backbone: Path) -> Metric:
    """LPIPS 0.1 with SqueezeNet (Zhang et al. 2018, arXiv:1801.03924), from the lpips package.

    Parameters
    ----------
    backbone : a safetensors file with torchvision's ``features.*`` of SqueezeNet 1.1

    Raises
    ------
    ConfigError
        If the package lpips is not installed.
    WeightsError
        If the file does not hold the backbone.
    """
    try:
        import lpips
    except ImportError as error:
        raise ConfigError("LPIPS needs the package lpips; install srpipe[train]") from error
    with warnings.catch_warnings():  # it calls torchvision by names that are going away
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()
    try:
        tensors = load_file(backbone)
        for part in vars(network.net)["_modules"].values():
            state = {key: tensors[f"features.{key}"] for key in part.state_dict()}
            part.load_state_dict(state)
    except (OSError, KeyError) as error:
        raise WeightsError(f"{backbone} is not SqueezeNet 1.1's features ({error})") from error
    return _in_unit(network)


def _in_unit(network: nn.Module) -> Metric:
    @torch.inference_mode()
    def distance(image: Tensor, truth: Tensor) -> float:
        return float(network(image, truth, normalize=True))

    return distance


def table(rows: Sequence[tuple[str, str, dict[str, float]]]) -> str:
    """Measurements as a Markdown table: data set, what enlarged, and each metric."""
    names = list(rows[0][2])
    lines = [f"| data | model | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
    for data, model, values in rows:
        cells = (f"{values[name]:.{2 if 'psnr' in name else 4}f}" for name in names)
        lines.append(f"| {data} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def record(rows: Sequence[tuple[str, str, dict[str, float]]], entry: zoo.Entry) -> None:
    """Write the measurements of each stage to its card, with the protocol."""
    for stage, card in entry.cards.items():
        name = f"{entry.name} at {zoo.STAGES.index(stage)}"
        values = {data: figures for data, model, figures in rows if model == name}
        if values:
            replace(card, metrics={"protocol": PROTOCOL, "values": values}).write()


def main(argv: list[str] | None = None) -> int:
    """Read the command line, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="folders of high-resolution pictures")
    parser.add_argument("-m", "--model", default="eagcl", help="which network (default: eagcl)")
    parser.add_argument("-s", "--scale", type=int, help="of the network (default: its first)")
    parser.add_argument("--weights", type=Path, help="folder of weights and cards")
    parser.add_argument(
        "--perception", type=float, nargs="+", help="0 fidelity ... 1 perception (default: 0 and 1)"
    )
    parser.add_argument("--lpips", type=Path, help="SqueezeNet 1.1's features, as safetensors")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--record", action="store_true", help="also write them to the cards")
    args = parser.parse_args(argv)
    try:
        rows = _measure_all(args)
    except SrpipeError as error:
        print(f"training.evaluate: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{table(rows)}\n\n{PROTOCOL}")
    if args.record:
        record(rows, zoo.find(args.model, scale=args.scale, folder=args.weights))
    if args.json:
        facts = [{"data": d, "model": m, **values} for d, m, values in rows]
        args.json.write_text(json.dumps({"protocol": PROTOCOL, "rows": facts}, indent=2) + "\n")
    return 0


def _measure_all(args: argparse.Namespace) -> list[tuple[str, str, dict[str, float]]]:
    entry = zoo.find(args.model, scale=args.scale, folder=args.weights)
    dial = args.perception or [zoo.STAGES.index(stage) for stage in entry.stages]
    lpips = lpips_squeeze(args.lpips) if args.lpips else None
    rows = []
    for folder in args.data:
        base = measure(lambda x: enlarge(x, entry.scale), folder, entry.scale, lpips)
        rows.append((folder.name, "bicubic", base))
        for perception in dial:
            loaded = zoo.load(
                entry.name, scale=entry.scale, perception=perception, folder=args.weights
            )
            values = measure(loaded.network, folder, entry.scale, lpips)
            rows.append((folder.name, f"{entry.name} at {perception:g}", values))
    return rows


if __name__ == "__main__":
    sys.exit(main())
