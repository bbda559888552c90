"""The networks: `MODELS` names them all."""

from srpipe.models import eagcl
from srpipe.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "eagcl": eagcl.SPEC,
}

__all__ = ["MODELS", "ModelSpec"]
