"""Attention that attends to everything equally."""

import torch
from torch import Tensor, nn

from guest_setwise.config import MeanOptions
from setwise.attention import AbstractAttention
from setwise.errors import ConfigError, ShapeError


class MeanAttention(AbstractAttention):
    """Gives every token a linear map of the token and of the mean over all that are not padding."""

    invariances = frozenset({"permutation", "padding"})

    def __init__(self, dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.own = nn.Linear(dim, dim, bias=bias)
        self.read = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = x.new_ones(x.shape[:2], dtype=torch.bool)
        if mask.shape != x.shape[:2]:
            raise ShapeError(f"mask has shape {tuple(mask.shape)}; a mean takes (batch, tokens)={tuple(x.shape[:2])}")
        keep = mask.unsqueeze(-1)
        x = x.masked_fill(~keep, 0)  # not x * keep, which would let nan through
        mean = x.sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True).clamp(min=1)
        return self.own(x) + self.read(mean)


def build(options: MeanOptions, *, dim: int, causal: bool) -> MeanAttention:
    """Build the layer from its options."""
    if causal:
        raise ConfigError("guest/mean reads the mean of all tokens and cannot be causal; choose another attention")
    return MeanAttention(dim, bias=options.bias)
