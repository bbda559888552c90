"""The networks: `MODELS` names them all."""

from srpipe.models import attsrgan, dggn, eagcl, rdam
from srpipe.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "eagcl": eagcl.SPEC,
    "attsrgan": attsrgan.SPEC,
    "rdam": rdam.SPEC,
    "dggn": dggn.SPEC,
}

__all__ = ["MODELS", "ModelSpec"]
