"""What networks trained on photographs see in an image; their weights are files of the user's.

None of these weights comes with srpipe, and nothing is fetched: a file that is not named is looked
for where torchvision, or pyiqa, keeps what it once downloaded.
"""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from srpipe.errors import ConfigError, WeightsError

BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""The networks of LPIPS, by the names that the lpips package and torchvision give them."""

NIQE_SIDE = 96
"""Of the blocks that NIQE, and so PI, looks at, in pixels; of what is not whole it sees nothing."""

CONV5_4 = 34
"""Index of the last convolution in torchvision's ``vgg19().features``."""

PYIQA_FILES = {
    "niqe": ("niqe_modelparameters.mat",),
    "pi": ("niqe_modelparameters.mat", "NRQM_model.mat"),
}
"""Metrics without a reference, and what pyiqa downloads for them."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the RGB of ImageNet, which torchvision's networks were trained with."""


class VGG19(nn.Module):
    """Features of VGG19 before a ReLU, by default those of conv5_4 (ESRGAN, section 3.3).

    Parameters
    ----------
    file : weights with torchvision's names, ``features.0.weight`` and so on, as safetensors or as
        torchvision's own .pth; None for the one that torchvision has downloaded
    layer : index into torchvision's ``vgg19().features``

    Raises
    ------
    ConfigError
        If torchvision is not installed.
    WeightsError
        If there is no such file, or it holds other tensors.
    """

    def __init__(self, file: Path | None = None, layer: int = CONV5_4) -> None:
        super().__init__()
        file = file or downloaded("vgg19")
        from torchvision.models import vgg  # part of the extra "train"

        self.features = vgg.make_layers(vgg.cfgs["E"])[: layer + 1]
        for module in self.features:
            if isinstance(module, nn.ReLU):
                module.inplace = False
        _fill([self.features], file, "vgg19")
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.mean = nn.Buffer(torch.tensor(MEAN).view(3, 1, 1))
        self.std = nn.Buffer(torch.tensor(STD).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Features of RGB images (N, 3, H, W) in [0, 1], with sides of 16 px or more."""
        return self.features((image - self.mean) / self.std)


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018, arXiv:1801.03924).

    The network and the learned heads are those of the lpips package.

    Parameters
    ----------
    net : "alex", "vgg" or "squeeze"; their numbers are not comparable
    file : weights of the backbone, as in `VGG19`

    Raises
    ------
    ConfigError
        If the package lpips is not installed, or has no such network.
    WeightsError
        If there is no such file, or it holds other tensors.
    """

    def __init__(self, net: str, file: Path | None = None) -> None:
        super().__init__()
        if net not in BACKBONES:
            raise ConfigError(f"LPIPS has no network {net!r}; there are {', '.join(BACKBONES)}")
        try:
            import lpips
        except ImportError as error:
            raise ConfigError("LPIPS needs the package lpips; install srpipe[train]") from error
        file = file or downloaded(BACKBONES[net])
        with warnings.catch_warnings():  # it calls torchvision by names that are going away
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self.network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        _fill(self.network.net.children(), file, BACKBONES[net])
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Distance of RGB images (N, 3, H, W) in [0, 1], sides of 32 px or more; shape (N,)."""
        return self.network(image, truth, normalize=True).flatten()


def no_reference(name: Literal["niqe", "pi"], device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """A quality that needs no truth, from the package pyiqa: NIQE or PI, both better when lower.

    NIQE is Mittal et al. 2013, doi:10.1109/LSP.2012.2227726; PI is half of NIQE plus 10 minus
    the score of Ma et al. (Blau et al. 2018, arXiv:1809.07517). Images (1, 3, H, W) in [0, 1],
    sides of 96 px or more.

    Raises
    ------
    ConfigError
        If pyiqa is not installed.
    WeightsError
        If its files are not on this machine.
    """
    try:
        import pyiqa
        from pyiqa.utils.download_util import DEFAULT_CACHE_DIR
    except ImportError as error:
        raise ConfigError(
            f"{name.upper()} needs the package pyiqa ({error}); pip install pyiqa, or leave it out"
        ) from error
    folder = Path(DEFAULT_CACHE_DIR)
    missing = [file for file in PYIQA_FILES[name] if not (folder / file).exists()]
    if missing:
        raise WeightsError(
            f"{name.upper()} needs {' and '.join(missing)} in {folder}, and srpipe fetches nothing;"
            f" `python -c \"import pyiqa; pyiqa.create_metric('{name}')\"` does"
        )
    options = {"crop_border": 0} if name == "pi" else {}  # what is measured was cropped before
    return pyiqa.create_metric(name, device=torch.device(device), **options)


def downloaded(network: str) -> Path:
    """Where torchvision keeps a network's ImageNet weights once it has downloaded them.

    Raises
    ------
    ConfigError
        If torchvision is not installed.
    WeightsError
        If there is no such file.
    """
    try:
        from torchvision.models import get_model_weights
    except ImportError as error:
        raise ConfigError(f"{network} needs torchvision; install srpipe[train]") from error
    weights: Any = get_model_weights(network)
    url = str(weights.IMAGENET1K_V1.url)
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.exists():
        raise WeightsError(
            f"the weights of {network} are not on this machine, and srpipe fetches nothing; name a"
            f" safetensors file with torchvision's features.*, or put {url} into {file.parent}"
        )
    return file


def _fill(parts: Any, file: Path, network: str) -> None:
    """Give modules, whose tensors are named as in ``features``, the weights of a file."""
    try:
        tensors = _tensors(file)
        for part in parts:
            state = {name: tensors[f"features.{name}"].float() for name in part.state_dict()}
            part.load_state_dict(state)
    except (OSError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read as weights ({_brief(error)})") from error
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file} does not hold the features of {network} ({_brief(error)}); name a safetensors"
            f" file with torchvision's features.* of {network}"
        ) from error


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix in (".pth", ".pt"):
        return torch.load(file, map_location="cpu", weights_only=True)
    return load_file(file)


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
