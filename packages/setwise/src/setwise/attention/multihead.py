"""Multi-head self-attention."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setwise.attention.base import AbstractAttention
from setwise.attention.cache import KVCache
from setwise.attention.capture import record
from setwise.attention.functional import Backend, attend, attention_weights, check_options
from setwise.attention.rotary import RotaryEmbedding
from setwise.errors import ConfigError, ShapeError
from setwise.options import MultiHeadOptions

__all__ = ["MultiHeadAttention"]

# Shape suffixes: B batch, H heads, G kv_heads, T tokens, K head_dim.


class MultiHeadAttention(AbstractAttention):
    r"""Self-attention with several heads, of which groups may share keys and values.

    .. math::
        \mathrm{head}_h = \mathrm{attend}(x W^Q_h, x W^K_{g(h)}, x W^V_{g(h)}), \qquad
        y = [\mathrm{head}_1, \dots, \mathrm{head}_H] W^O

    (Vaswani et al., 2017, section 3.2.2; groups g: Ainslie et al., 2023). Records `"weights"`, the attention weights
    (batch, heads, tokens, tokens) without dropout.

    Args:
        dim: width of the tokens.
        num_heads: number of query heads.
        num_kv_heads: number of key and value heads; `num_heads` when None.
        head_dim: width of a head; `dim / num_heads` when None.
        causal: whether tokens see no later ones.
        rope: rotates queries and keys by their positions, when given.
        bias: whether the projections have biases.
        dropout: probability with which attention weights are set to zero in training.
        backend: see :func:`~setwise.attention.functional.attend`.

    Raises:
        ConfigError: the numbers do not fit together; the message says which.

    Example:
        >>> import torch
        >>> layer = MultiHeadAttention(8, num_heads=4, num_kv_heads=2, causal=True, rope=RotaryEmbedding(2))
        >>> layer(torch.randn(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        rope: RotaryEmbedding | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_options(dropout=dropout, backend=backend)
        sizes = {"dim": dim, "num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_dim": head_dim}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ConfigError(f"{name}={size} must be positive")
        if head_dim is None and dim % num_heads:
            near = " or ".join(str(heads) for heads in _divisors_near(num_heads, dim))
            raise ConfigError(f"num_heads={num_heads} must divide dim={dim}; try {near}, or give head_dim")
        if num_heads % num_kv_heads:
            near = " or ".join(str(heads) for heads in _divisors_near(num_kv_heads, num_heads))
            raise ConfigError(f"num_kv_heads={num_kv_heads} must divide num_heads={num_heads}; try {near}")
        self.dim, self.num_heads, self.num_kv_heads = dim, num_heads, num_kv_heads
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        if rope is not None and rope.head_dim != self.head_dim:
            raise ConfigError(f"rope is for head_dim={rope.head_dim}; the heads of this layer have {self.head_dim}")
        self.causal, self.dropout = causal, dropout
        self.backend: Backend = backend
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(num_heads * self.head_dim, dim, bias=bias)
        self.rope = rope
        claims = {"padding": True, "causal": causal, "permutation": not causal and rope is None}
        claims["translation"] = rope is not None
        self.invariances = frozenset(name for name, holds in claims.items() if holds)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Tensor | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens after each has attended to those it may.

        Args:
            x: tokens.
            mask: True = may be attended: (batch, tokens), or four axes that broadcast to
                (batch, heads, tokens, tokens).
            positions: for `rope`: (tokens,), (batch, tokens) or (batch, tokens, 1); 0, 1, 2, … when None.

        Raises:
            ShapeError: a shape is not as above.
        """
        if mask is not None and mask.shape == x.shape[:2] and mask.dtype == torch.bool:
            # A weight of zero does not keep out NaN or infinity, neither here nor in the gradients of the projections.
            x = x.masked_fill(~mask[..., None], 0)
        q_BHTK, k_BGTK, v_BGTK = self._project(x, positions, first_position=0)
        return self._attend(q_BHTK, k_BGTK, v_BGTK, mask, dropout=self.dropout if self.training else 0.0)

    def init_cache(self, batch: int, max_tokens: int) -> KVCache:
        """Return an empty cache for :meth:`step`.

        Raises:
            SetwiseError: the layer is not causal.
        """
        return KVCache(batch, max_tokens=max_tokens) if self.causal else super().init_cache(batch, max_tokens)

    def step(self, x_t: Float[Tensor, "batch new_tokens dim"], cache: KVCache) -> Float[Tensor, "batch new_tokens dim"]:
        """Return what `forward` on all tokens so far would return for the new ones; for inference, without dropout.

        Raises:
            SetwiseError: the layer is not causal, or the cache is full.
        """
        if not self.causal:
            return super().step(x_t, cache)
        q_BHTK, k_BGTK, v_BGTK = self._project(x_t, None, first_position=len(cache))
        return self._attend(q_BHTK, *cache.append(k_BGTK, v_BGTK), None, dropout=0.0)

    def _project(self, x: Tensor, positions: Tensor | None, *, first_position: int) -> tuple[Tensor, Tensor, Tensor]:
        if x.dim() != 3 or x.shape[2] != self.dim:
            raise ShapeError(f"tokens have shape {tuple(x.shape)}; expected (batch, tokens, dim) with dim={self.dim}")
        heads_BHTK = rearrange(self.qkv(x), "b t (h k) -> b h t k", k=self.head_dim)
        q_BHTK, k_BGTK, v_BGTK = heads_BHTK.split((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1)
        if self.rope is not None:
            if positions is None:
                positions = torch.arange(first_position, first_position + x.shape[1], device=x.device)
            q_BHTK, k_BGTK = self.rope(q_BHTK, positions), self.rope(k_BGTK, positions)
        return q_BHTK, k_BGTK, v_BGTK

    def _attend(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: Tensor | None, *, dropout: float) -> Tensor:
        record(self, "weights", lambda: attention_weights(q_BHTK, k_BGSK, mask=mask, causal=self.causal))
        o_BHTK = attend(q_BHTK, k_BGSK, v_BGSK, mask=mask, causal=self.causal, dropout=dropout, backend=self.backend)
        return self.out(rearrange(o_BHTK, "b h t k -> b t (h k)"))


def build_mha(options: MultiHeadOptions, *, dim: int, causal: bool) -> MultiHeadAttention:
    """Build the attention that recipes name ``setwise/mha``.

    Raises:
        ConfigError: the heads do not fit ``dim``.
    """
    head_dim = options.head_dim or dim // options.num_heads
    # Where the heads do not share dim evenly, the layer below says so, better than the embedding could.
    fits = options.head_dim is not None or dim % options.num_heads == 0
    return MultiHeadAttention(
        dim,
        num_heads=options.num_heads,
        num_kv_heads=options.num_kv_heads,
        head_dim=options.head_dim,
        causal=causal,
        rope=RotaryEmbedding(head_dim, base=options.rope_base) if options.rope and fits else None,
        bias=options.bias,
        dropout=options.dropout,
        backend=options.backend,
    )


def _divisors_near(number: int, total: int) -> list[int]:
    """Return the divisors of `total` next below and above a number."""
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    return [d for d in divisors if d < number][-1:] + [d for d in divisors if d > number][:1]
