"""Scaled dot-product attention as a function, with backends that compute the same thing at different prices."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from setwise.attention.chunked import chunked_attention
from setwise.attention.masks import as_attention_mask, causal_mask, combine_masks
from setwise.errors import ConfigError, ShapeError, suggest

__all__ = ["BACKENDS", "Backend", "attend", "attention_weights", "check_options", "choose_backend"]

# Shape suffixes: B batch, H heads, G kv_heads (H is a multiple of G), T queries, S keys, K key width, V value width.

Backend = Literal["auto", "reference", "sdpa", "chunked"]
BACKENDS: tuple[Backend, ...] = ("auto", "reference", "sdpa", "chunked")

# Up to so many scores the fixed costs of the chunked backend outweigh what it saves. It saves most of the work of
# dropout and masks; in plain attention only what does not fit the cache.
_FEW_SCORES = 1 << 16
_FEW_SCORES_OF_PLAIN_ATTENTION = 1 << 21


def attend(
    q_BHTK: Float[Tensor, "batch heads queries key_dim"],
    k_BGSK: Float[Tensor, "batch kv_heads keys key_dim"],
    v_BGSV: Float[Tensor, "batch kv_heads keys value_dim"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Let every query take the mean of the values, weighted by how well their keys match.

    .. math::
        \mathrm{attend}(Q, K, V) = \mathrm{dropout}(\mathrm{softmax}(\text{scale} \cdot Q K^\top)) V

    (Vaswani et al., 2017, eq. 1). With fewer key-value heads than heads, query head h uses key-value head
    h // (heads / kv_heads) (Ainslie et al., 2023). A query that may attend to nothing gets zeros, and passes a
    gradient of zero.

    Args:
        q_BHTK: queries.
        k_BGSK: keys.
        v_BGSV: values.
        mask: True = may be attended: (batch, keys), or four axes that broadcast to (batch, heads, queries, keys).
        causal: whether a query attends to no key after it; the last query belongs to the last key.
        scale: factor of the scores; key_dim ** -0.5 when None.
        dropout: probability with which a weight is set to zero; the others are divided by one minus it. Applied
            whenever positive: give 0 outside of training.
        backend: how it is computed. `"reference"`: plain operations. `"sdpa"`: torch's kernels. `"chunked"`: a few
            queries at a time, for which the scores are computed again in the backward pass, so memory is linear in
            the tokens. `"auto"`: see :func:`choose_backend`.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        ConfigError: dropout is not in [0, 1), or the backend is not known.

    Example:
        >>> q, k = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 7, 4)
        >>> attend(q, k, k, mask=torch.ones(2, 7, dtype=torch.bool)).shape
        torch.Size([2, 6, 5, 4])
    """
    _check_shapes(q_BHTK, k_BGSK, v_BGSV)
    check_options(dropout=dropout, backend=backend)
    batch, heads, queries, key_dim = q_BHTK.shape
    keys = k_BGSK.shape[2]
    if mask is not None:
        mask = as_attention_mask(mask, batch=batch, heads=heads, queries=queries, keys=keys)
    scale = 1 / math.sqrt(key_dim) if scale is None else scale
    num_scores = batch * heads * queries * keys
    if backend == "auto":
        plain = mask is None and not causal and not dropout
        backend = choose_backend(q_BHTK.device, num_scores=num_scores, plain=plain)
    if num_scores == 0:
        backend = "reference"  # the others do not take empty sets
    blind = queries - keys if causal else 0
    if blind > 0:  # the first queries come before every key
        q_BHTK = q_BHTK[:, :, blind:]
        mask = mask[:, :, blind:] if mask is not None and mask.shape[2] > 1 else mask
    if queries == 1:
        causal = False  # a single query is the last and sees all
    run = {"reference": _reference, "sdpa": _sdpa, "chunked": chunked_attention}[backend]
    o_BHTV = run(q_BHTK, k_BGSK, v_BGSV, mask=mask, causal=causal, scale=scale, dropout=dropout)
    return F.pad(o_BHTV, (0, 0, blind, 0)) if blind > 0 else o_BHTV


def choose_backend(device: torch.device, *, num_scores: int, plain: bool) -> Backend:
    """Return what `backend="auto"` stands for.

    On GPUs `"sdpa"`, whose fused kernels keep no scores. On a CPU `"chunked"`, which works in the processor's cache,
    skips most of what a causal mask hides and draws dropout several times faster than torch does; but `"reference"`
    for scores so few that fixed costs decide, and under torch.compile, which cannot look into the chunked backend.
    `benchmarks/bench_attention.py` measures this rule.

    Args:
        device: where the tensors are.
        num_scores: batch x heads x queries x keys.
        plain: whether there is neither a mask nor dropout, and attention is not causal.

    Example:
        >>> choose_backend(torch.device("cpu"), num_scores=8 * 569 * 569, plain=False)
        'chunked'
    """
    if device.type != "cpu":
        return "sdpa"
    few = _FEW_SCORES_OF_PLAIN_ATTENTION if plain else _FEW_SCORES
    return "reference" if num_scores <= few or torch.compiler.is_compiling() else "chunked"


def attention_weights(
    q_BHTK: Float[Tensor, "batch heads queries key_dim"],
    k_BGSK: Float[Tensor, "batch kv_heads keys key_dim"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    """Return the weights that :func:`attend` gives to the values, without dropout. Arguments are those of `attend`.

    Example:
        >>> attention_weights(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 2, 3))
        tensor([[[[0.5000, 0.5000]]]])
    """
    batch, heads, queries, key_dim = q_BHTK.shape
    keys = k_BGSK.shape[2]
    if mask is not None:
        mask = as_attention_mask(mask, batch=batch, heads=heads, queries=queries, keys=keys)
    scale = 1 / math.sqrt(key_dim) if scale is None else scale
    scores = (q_BHTK * scale) @ _for_each_head(k_BGSK, heads).mT
    dtype = torch.promote_types(scores.dtype, torch.float32)
    allowed = combine_masks(mask, causal_mask(queries, keys, device=scores.device) if causal else None)
    if allowed is None:
        return scores.softmax(-1, dtype=dtype)
    # A row without any key would give 0 / 0: let it attend everywhere, then take that away.
    sees = allowed.any(-1, keepdim=True)
    weights = scores.masked_fill(~(allowed | ~sees), -math.inf).softmax(-1, dtype=dtype)
    return weights.masked_fill(~sees, 0)


def check_options(*, dropout: float, backend: str) -> None:
    """Raise ConfigError when `dropout` or `backend` is not one that :func:`attend` takes; for layers' constructors."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout={dropout} is not a probability below 1; give one in [0, 1)")
    if backend not in BACKENDS:
        raise ConfigError(
            f'backend="{backend}" is not known; use one of {", ".join(BACKENDS)}' + suggest(backend, BACKENDS)
        )


def _reference(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, *, mask: Tensor | None, causal: bool, scale: float, dropout: float
) -> Tensor:
    weights = attention_weights(q_BHTK, k_BGSK, mask=mask, causal=causal, scale=scale)
    return F.dropout(weights, dropout).to(v_BGSV.dtype) @ _for_each_head(v_BGSV, q_BHTK.shape[1])


def _sdpa(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, *, mask: Tensor | None, causal: bool, scale: float, dropout: float
) -> Tensor:
    heads, queries, keys = q_BHTK.shape[1], q_BHTK.shape[2], k_BGSK.shape[2]
    # torch's own flag makes the first query the first key; here the last query is the last key.
    is_causal = causal and mask is None and queries == keys
    if causal and not is_causal:
        mask = combine_masks(mask, causal_mask(queries, keys, device=q_BHTK.device))
    grouped = k_BGSK.shape[1] != heads
    sees = None
    if mask is not None:
        sees = mask.any(-1, keepdim=True)
        mask = mask | ~sees
        if grouped:  # with a mask, no fused kernel takes fewer key-value heads than heads
            k_BGSK, v_BGSV, grouped = _for_each_head(k_BGSK, heads), _for_each_head(v_BGSV, heads), False
    o_BHTV = F.scaled_dot_product_attention(
        q_BHTK, k_BGSK, v_BGSV, mask, dropout_p=dropout, is_causal=is_causal, scale=scale, enable_gqa=grouped
    )
    return o_BHTV if sees is None else o_BHTV.masked_fill(~sees, 0)


def _for_each_head(x_BGSK: Tensor, heads: int) -> Tensor:
    kv_heads = x_BGSK.shape[1]
    return x_BGSK if kv_heads == heads else x_BGSK.repeat_interleave(heads // kv_heads, dim=1)


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"queries {tuple(q.shape)}, keys {tuple(k.shape)}, values {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 4:
        raise ShapeError(f"attend takes four axes, (batch, heads, tokens, head_dim); given {shapes}")
    if not q.shape[0] == k.shape[0] == v.shape[0]:
        raise ShapeError(f"batch (axis 0) must be the same; given {shapes}")
    if q.shape[3] != k.shape[3]:
        raise ShapeError(f"queries and keys must have the same width (axis 3); given {shapes}")
    if k.shape[1:3] != v.shape[1:3]:
        raise ShapeError(f"keys and values must have the same heads and tokens (axes 1 and 2); given {shapes}")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ShapeError(f"the heads of the keys (axis 1) must divide those of the queries; given {shapes}")
