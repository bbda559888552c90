import pytest
import torch

from srpipe.models import MODELS
from training.generator import Lowered
from training.step import _compile

COMPILED = [family for family, spec in MODELS.items() if spec.compiled]


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # what Dynamo looks at
@pytest.mark.parametrize("family", COMPILED)
def test_what_is_compiled_learns_the_same_and_is_compiled_whole(family):
    torch._dynamo.reset()
    spec = MODELS[family]
    master = spec.build(**spec.presets["lite"])
    low, slopes = torch.rand(1, 3, 12, 16), []
    for backend in (None, "aot_eager"):
        network = Lowered(master)
        for part in network.modules():
            if backend and isinstance(part, spec.compiled):
                part.compile(backend=backend, fullgraph=True, dynamic=False)
        network(low).square().mean().backward()
        network.give()
        slopes.append(
            torch.cat([p.grad.flatten() for p in master.parameters() if p.grad is not None])
        )
    assert float(torch.cosine_similarity(*slopes, 0)) > 0.999


def test_only_the_named_parts_are_compiled():
    network = MODELS["eagcl"].build(**MODELS["eagcl"].presets["lite"])
    kind = MODELS["eagcl"].compiled
    _compile(network, kind)
    for part in network.modules():
        assert (part._compiled_call_impl is not None) == isinstance(part, kind)
