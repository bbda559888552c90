"""The networks: `MODELS` names them all."""

from srpipe.models import attsrgan, dggn, eagcl, gpsr, rdam
from srpipe.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "eagcl": eagcl.SPEC,
    "attsrgan": attsrgan.SPEC,
    "rdam": rdam.SPEC,
    "gpsr": gpsr.SPEC,
    "dggn": dggn.SPEC,
}

__all__ = ["MODELS", "ModelSpec"]
