"""Transformer blocks around any attention: norms, feed-forward networks and residual connections."""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setwise.attention.base import AbstractAttention
from setwise.errors import ConfigError, suggest

__all__ = ["Activation", "AttentionBlock", "FeedForward", "Norm", "make_norm"]

Activation = Literal["gelu", "relu", "silu", "swiglu"]
Norm = Literal["layer", "rms"]

_ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "swiglu": F.silu}
_NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def make_norm(name: Norm, dim: int, *, eps: float = 1e-5) -> nn.Module:
    """Return a normalisation layer.

    Args:
        name: `"layer"` (Ba et al., 2016) or `"rms"` (Zhang and Sennrich, 2019).
        dim: width of the tokens.
        eps: added to the variance or mean square.

    Raises:
        ConfigError: the name is not known.

    Example:
        >>> make_norm("rms", 8)
        RMSNorm((8,), eps=1e-05, elementwise_affine=True)
    """
    if name not in _NORMS:
        raise ConfigError(f'norm="{name}" is not known; use one of {", ".join(_NORMS)}' + suggest(name, _NORMS))
    return _NORMS[name](dim, eps=eps)


class FeedForward(nn.Module):
    r"""A network of two layers for every token by itself.

    .. math::
        y = \mathrm{dropout}(\sigma(x W_1)) W_2, \qquad
        y = \mathrm{dropout}(\mathrm{silu}(x W_G) \odot x W_1) W_2 \ \text{for swiglu}

    (Vaswani et al., 2017, eq. 2; Shazeer, 2020, eq. 6).

    Args:
        dim: width of the tokens.
        hidden_dim: width between the layers; when None `4 * dim`, or `8 * dim // 3` for swiglu, which has as many
            parameters.
        activation: `"gelu"` (exact), `"relu"`, `"silu"` or `"swiglu"`.
        dropout: probability with which hidden units are set to zero in training.
        bias: whether the layers have biases.

    Raises:
        ConfigError: the activation is not known.

    Example:
        >>> import torch
        >>> FeedForward(8, activation="swiglu")(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden_dim: int | None = None,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ConfigError(
                f'activation="{activation}" is not known; use one of {", ".join(_ACTIVATIONS)}'
                + suggest(activation, _ACTIVATIONS)
            )
        self.activation, self.gated = activation, activation == "swiglu"
        if hidden_dim is None:
            hidden_dim = 8 * dim // 3 if self.gated else 4 * dim
        self.expand = nn.Linear(dim, 2 * hidden_dim if self.gated else hidden_dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """Return the network's output for every token."""
        hidden = self.expand(x)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * value
        else:
            hidden = _ACTIVATIONS[self.activation](hidden)
        return self.contract(self.dropout(hidden))


class AttentionBlock(AbstractAttention):
    r"""Attention and a feed-forward network, each with a norm and a residual connection.

    .. math::
        h = x + \mathrm{attention}(\mathrm{norm}(x)), \qquad y = h + \mathrm{ffn}(\mathrm{norm}(h))

    or, with `norm_first=False`, :math:`h = \mathrm{norm}(x + \mathrm{attention}(x))` and likewise y. A block is an
    attention layer again, with the invariances of the one inside.

    Args:
        attention: any attention layer.
        ffn: maps tokens of width `attention.dim` to the same, each by itself.
        norm: `"layer"` or `"rms"`.
        norm_first: whether norms come before attention and network (Xiong et al., 2020) or after the sums
            (Vaswani et al., 2017).
        dropout: probability with which units of both outputs are set to zero in training, before they are added.

    Raises:
        ConfigError: the norm is not known.

    Example:
        >>> import torch
        >>> from setwise.attention import MultiHeadAttention
        >>> block = AttentionBlock(MultiHeadAttention(8, num_heads=2), ffn=FeedForward(8))
        >>> block(torch.randn(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        attention: AbstractAttention,
        *,
        ffn: nn.Module,
        norm: Norm = "layer",
        norm_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.invariances, self.norm_first = attention.dim, attention.invariances, norm_first
        self.attention, self.ffn = attention, ffn
        self.attention_norm, self.ffn_norm = make_norm(norm, self.dim), make_norm(norm, self.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Tensor | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens after attention and network; mask and positions go to the attention."""
        attended = self.attention(self.attention_norm(x) if self.norm_first else x, mask=mask, positions=positions)
        return self._after_attention(x, attended)

    def init_cache(self, batch: int, max_tokens: int) -> Any:
        """Return an empty cache of the attention inside."""
        return self.attention.init_cache(batch, max_tokens)

    def step(self, x_t: Float[Tensor, "batch new_tokens dim"], cache: Any) -> Float[Tensor, "batch new_tokens dim"]:
        """Return what `forward` on all tokens so far would return for the new ones."""
        return self._after_attention(
            x_t, self.attention.step(self.attention_norm(x_t) if self.norm_first else x_t, cache)
        )

    def _after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        hidden = x + self.dropout(attended)
        if self.norm_first:
            return hidden + self.dropout(self.ffn(self.ffn_norm(hidden)))
        hidden = self.attention_norm(hidden)
        return self.ffn_norm(hidden + self.dropout(self.ffn(hidden)))
