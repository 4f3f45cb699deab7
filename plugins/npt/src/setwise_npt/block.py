"""The multi-head attention block that every layer of a Non-Parametric Transformer is (Kossen et al., 2021, eq. 1-4)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from setwise.attention import attend, attention_weights, record
from setwise.errors import ConfigError
from setwise_npt.config import BlockOptions
from setwise_npt.dropout import Dropout

# Shape suffixes: B batch, T queries, t some of them, S keys, H heads, K width of a head.
_QUERIES_AT_ONCE = 256


class MultiheadAttentionBlock(nn.Module):
    r"""MAB(X, Y): X attends to Y, then goes through a feed-forward network. With the default options

    .. math::
        Q = \mathrm{LN}(X) W_Q,\quad K = Y W_K,\quad V = Y W_V \\
        H = X W_R + \mathrm{softmax}(Q K^\top / \sqrt{\dim Y})\, V\, W_O \\
        \mathrm{MAB}(X, Y) = H + \mathrm{FF}(\mathrm{LN}(H))

    with the softmax in each head, and biases everywhere. Two things differ from most transformers: the scores are
    divided by the root of the *whole* width and not of a head's, and keys and values are computed from Y before the
    norm. :func:`setwise.attention.capture` reads the ``weights`` (batch, heads, queries, keys), without dropout.

    Args:
        dim: width of the block and of its output.
        options: see :class:`~setwise_npt.config.BlockOptions`.
        query_dim: width of X; ``dim`` when not given.
        context_dim: width of Y; ``dim`` when not given.

    Raises:
        ConfigError: ``num_heads`` does not divide ``dim``, or an option needs widths to be equal that are not.

    Example:
        >>> block = MultiheadAttentionBlock(8, BlockOptions(num_heads=2))
        >>> block(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self, dim: int, options: BlockOptions, *, query_dim: int | None = None, context_dim: int | None = None
    ) -> None:
        super().__init__()
        query_dim, context_dim = query_dim or dim, context_dim or dim
        if dim % options.num_heads:
            raise ConfigError(f"num_heads={options.num_heads} must divide dim={dim}")
        if options.norm_keys_values and query_dim != context_dim:
            raise ConfigError(
                f"norm_keys_values=true uses one norm for queries and keys: query_dim={query_dim} must equal "
                f"context_dim={context_dim}"
            )
        self.options = options
        self.scale = (context_dim if options.score_scale == "input" else dim // options.num_heads) ** -0.5
        self.query = nn.Linear(query_dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(context_dim, dim)
        self.mix = nn.Linear(dim, dim) if options.mix_heads else None
        self.residual = nn.Linear(query_dim, dim) if options.residual_projection else None
        self.attention_norm = _norm(query_dim if options.norm == "pre" else dim, options)
        self.feed_forward_norm = _norm(dim, options)
        self.feed_forward = _feed_forward(dim, options) if options.feed_forward else None
        # Without the map that mixes heads, what is dropped from is what the attention's gradient is computed from.
        self.dropout = Dropout(options.dropout, inplace=options.mix_heads)

    def forward(
        self,
        x: Float[Tensor, "batch queries query_dim"],
        y: Float[Tensor, "batch keys context_dim"] | None = None,
        *,
        mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Return the block's output.

        Args:
            x: what attends.
            y: what is attended to; ``x`` itself when not given.
            mask: keys that may be attended; all when not given.
        """
        y = x if y is None else y
        pre_norm = self.options.norm == "pre"
        query_input = self.attention_norm(x) if pre_norm else x
        if self.options.norm_keys_values and pre_norm:
            y = query_input if y is x else self.attention_norm(y)
        query = self.query(query_input)
        attended = self._attend(query, self.key(y), self.value(y), mask)
        if self.mix is not None:
            attended = self.mix(attended)
        hidden = self.dropout(attended) + (query if self.residual is None else self.residual(x))
        if self.options.norm == "post":
            hidden = self.attention_norm(hidden)
        return self._feed_forward(hidden)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        q_BHTK, k_BHSK, v_BHSK = (
            t.unflatten(-1, (self.options.num_heads, -1)).transpose(1, 2) for t in (query, key, value)
        )
        dropout = self.options.attention_dropout if self.training else 0.0
        if self.options.score_norm == "constant":
            record(self, "weights", lambda: _unnormalised_weights(q_BHTK, _unmasked(k_BHSK, mask)))
            o_BHTK = _attend_unnormalised(q_BHTK, _unmasked(k_BHSK, mask), v_BHSK, dropout)
        else:
            record(self, "weights", lambda: attention_weights(q_BHTK, k_BHSK, mask=mask, scale=self.scale))
            backend = self.options.backend
            o_BHTK = attend(q_BHTK, k_BHSK, v_BHSK, mask=mask, scale=self.scale, dropout=dropout, backend=backend)
        return o_BHTK.transpose(1, 2).flatten(-2)

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        if self.options.norm == "post" and self.feed_forward is not None:
            return self.feed_forward_norm(hidden + self.feed_forward(hidden))
        normed = self.feed_forward_norm(hidden)
        return hidden + (normed if self.feed_forward is None else self.feed_forward(normed))


def _norm(dim: int, options: BlockOptions) -> nn.Module:
    return nn.Identity() if options.norm == "none" else nn.LayerNorm(dim, eps=options.norm_eps)


def _feed_forward(dim: int, options: BlockOptions) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = dim
    for _ in range(options.feed_forward_depth):
        layers += [nn.Linear(width, 4 * dim), nn.GELU(), Dropout(options.dropout, inplace=True)]
        width = 4 * dim
    return nn.Sequential(*layers, nn.Linear(width, dim), Dropout(options.dropout, inplace=True))


def _unmasked(k_BHSK: Tensor, mask: Tensor | None) -> Tensor:
    """Return keys that give a score of zero to every query where they are masked."""
    return k_BHSK if mask is None else k_BHSK.masked_fill(~mask[:, None, :, None], 0.0)


def _unnormalised_weights(q_BHTK: Tensor, k_BHSK: Tensor) -> Tensor:
    return q_BHTK @ (k_BHSK / k_BHSK.shape[-1]).mT


def _attend_unnormalised(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, dropout: float) -> Tensor:
    """Attend with the scores divided by a head's width as weights: ``(Q K^T) V / K``.

    Without a softmax the products associate, and ``Q (K^T V)`` needs no (queries, keys) matrix. Dropping weights does;
    then it is computed, and computed again in the backward pass, for a few queries at a time.
    """
    if dropout == 0:
        return q_BHTK @ (k_BHSK.mT @ v_BHSK / k_BHSK.shape[-1])

    def attend_with_dropout(q_BHtK: Tensor) -> Tensor:
        return F.dropout(_unnormalised_weights(q_BHtK, k_BHSK), dropout) @ v_BHSK

    chunks = q_BHTK.split(_QUERIES_AT_ONCE, dim=2)
    return torch.cat([checkpoint(attend_with_dropout, chunk, use_reentrant=False) for chunk in chunks], dim=2)
