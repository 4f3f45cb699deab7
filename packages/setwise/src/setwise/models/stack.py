"""The stack of attention blocks that the generic models share."""

from __future__ import annotations

from torch import nn

from setwise.attention import AttentionBlock, FeedForward
from setwise.errors import ConfigError
from setwise.options import StackOptions


def build_blocks(options: StackOptions, *, causal: bool) -> nn.ModuleList:
    """Return the blocks that the options describe, each with an attention of its own.

    Raises:
        ConfigError: the blocks have to be causal and the attention is not.
    """
    blocks = nn.ModuleList()
    for _ in range(options.num_layers):
        attention = options.attention.build(dim=options.dim, causal=causal)
        if causal and "causal" not in attention.invariances:
            raise ConfigError(f"{options.attention.name} is not causal with these options; choose another attention")
        ffn = FeedForward(
            options.dim, hidden_dim=options.ffn_dim, activation=options.activation, dropout=options.dropout
        )
        blocks.append(
            AttentionBlock(
                attention, ffn=ffn, norm=options.norm, norm_first=options.norm_first, dropout=options.dropout
            )
        )
    return blocks
