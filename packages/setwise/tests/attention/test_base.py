import pytest
import torch
from torch import Tensor

from setwise.attention.base import AbstractAttention
from setwise.errors import SetwiseError


class Mean(AbstractAttention):
    dim = 3

    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)


class RunningMean(Mean):
    invariances = frozenset({"causal"})


def test_a_layer_needs_a_forward():
    with pytest.raises(TypeError, match="forward"):
        AbstractAttention()


def test_a_layer_claims_nothing_by_default():
    assert Mean().invariances == frozenset()


@pytest.mark.parametrize(
    ("layer", "message"), [(Mean(), "Mean is not causal"), (RunningMean(), "RunningMean is causal but has no")]
)
def test_a_layer_without_steps_says_why(layer, message):
    with pytest.raises(SetwiseError, match=message):
        layer.init_cache(2, 5)
    with pytest.raises(SetwiseError, match=message):
        layer.step(torch.zeros(2, 1, 3), None)
