"""A decoder-only language model around any attention that can be causal."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setwise.attention import make_norm
from setwise.data.spec import DataSpec, Tokens
from setwise.errors import ConfigError, ShapeError
from setwise.models.stack import build_blocks
from setwise.options import CausalLMOptions


@final
class CausalLM(nn.Module):
    """Predict the token after each token from it and those before (Radford et al., 2019), output weights tied.

    Args:
        tokens: vocabulary size and longest input.
        options: width, depth, and which attention.

    Example:
        >>> model = CausalLM(Tokens("tokens", vocab_size=11, length=7), CausalLMOptions(dim=8, num_layers=1))
        >>> model(tokens=torch.randint(11, (2, 5))).shape
        torch.Size([2, 5, 11])
    """

    def __init__(self, tokens: Tokens, options: CausalLMOptions) -> None:
        super().__init__()
        self.length = tokens.length
        self.embedding = nn.Embedding(tokens.vocab_size, options.dim)
        self.position = nn.Embedding(tokens.length, options.dim) if options.learned_positions else None
        for table in (self.embedding, self.position):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = build_blocks(options, causal=True)
        self.norm = make_norm(options.norm, options.dim)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Return logits of the following tokens.

        Raises:
            ShapeError: there are more tokens than the model was built for.
        """
        length = tokens.shape[1]
        if length > self.length:
            raise ShapeError(f"got {length} tokens, the model was built for at most {self.length}; shorten the input")
        x = self.embedding(tokens)
        if self.position is not None:
            x = x + self.position(torch.arange(length, device=tokens.device))
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def build_causal_lm(options: CausalLMOptions, *, data: DataSpec) -> CausalLM:
    """Build the model that recipes name ``setwise/causal-lm``.

    Raises:
        ConfigError: the data is not text.
    """
    if len(data.inputs) != 1 or not isinstance(data.inputs[0], Tokens):
        found = ", ".join(f"{field.name} ({type(field).__name__})" for field in data.inputs)
        raise ConfigError(f"setwise/causal-lm reads text, one field of Tokens; the data has: {found}")
    return CausalLM(data.inputs[0], options)
