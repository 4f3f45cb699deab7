"""Attention a block at a time: the scores of all tokens never exist at once, and those of a block stay in the cache.

For weights P = softmax(s Q Kᵀ), weights after dropout M = P · keep / (1 - p) and O = M V, the gradients are
(Dao et al., 2022, appendix B)

    dV = Mᵀ dO,   dS = M · (dO Vᵀ) - P · rowsum(dO · O),   dQ = s dS K,   dK = s dSᵀ Q.

Only Q, K, V, O and the state of the random number generator are stored for them; the backward pass computes the P and
`keep` of a block again. Calls with few scores store their P as well: that is faster and takes a bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from setwise.attention.masks import causal_mask
from setwise.device import autocast_dtype, generator_state, without_autocast
from setwise.errors import ConfigError

__all__ = ["chunked_attention"]

# Shape suffixes: B batch, G kv_heads, R query heads per kv_head, T queries, S keys, K key width, V value width;
# inside a block: N sets (some of B x G), M rows (R x some of T).

# Scores of a block on a CPU: 2 MiB, so that each operation finds them in the cache. Not a function of the number of
# threads, and so neither is what dropout draws.
_CPU_BLOCK = 1 << 19
_GPU_BLOCK = 1 << 25
_FEWEST_QUERIES = 16
# Calls with no more scores than this store their weights: 32 MiB at most.
_STORED_SCORES = 1 << 23
# Added to the scores of what may not be attended. Finite, so that rows which see nothing stay finite until zeroed.
_MASKED = torch.finfo(torch.float32).min / 2
# Products with results narrower than this take MKL several times longer than the transposed product.
_NARROW = 12
# Products that sum over queries are faster transposed when their result is this many times higher than wide.
_TALL = 3


def chunked_attention(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, *, mask: Tensor | None, causal: bool, scale: float, dropout: float
) -> Tensor:
    """Compute :func:`~setwise.attention.functional.attend` in blocks; the mask has four axes, T <= S when causal.

    Dropout's probability is rounded to a multiple of 2⁻¹⁵, and the weights that stay are divided by exactly the
    probability of staying: expectations are exact.

    Raises:
        ConfigError: in the backward pass, when it is to be differentiated again.
    """
    kv_heads = k_BGSK.shape[1]
    if mask is not None:
        mask = mask.unsqueeze(1) if mask.shape[1] == 1 else mask.unflatten(1, (kv_heads, -1))
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHTK, k_BGSK, v_BGSV))
    num_scores = q_BHTK.shape[:3].numel() * k_BGSK.shape[2]
    dtype = autocast_dtype(q_BHTK.device)
    settings = _Settings(
        causal=causal,
        scale=scale,
        dropout=dropout,
        dtype=q_BHTK.dtype if dtype is None or q_BHTK.dtype == torch.float64 else dtype,  # as autocast does
        store=needs_gradient and num_scores <= _STORED_SCORES,
    )
    with without_autocast(q_BHTK.device):
        o_BGRTV = _Chunked.apply(q_BHTK.unflatten(1, (kv_heads, -1)), k_BGSK, v_BGSV, mask, settings)
    return o_BGRTV.flatten(1, 2)


class _Settings(NamedTuple):
    """What a call computes, besides its tensors: products in `dtype`; `store`: weights are kept for the gradients."""

    causal: bool
    scale: float
    dropout: float
    dtype: torch.dtype
    store: bool


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BGRTK: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, mask: Tensor | None, settings: _Settings
    ) -> Tensor:
        ctx.settings, ctx.input_dtypes = settings, (q_BGRTK.dtype, k_BGSK.dtype, v_BGSV.dtype)
        ctx.blocks = _blocks(q_BGRTK.shape, k_BGSK.shape[2], settings.causal, q_BGRTK.device)
        ctx.generator_state = generator_state(q_BGRTK.device) if settings.dropout else None
        drops = _Dropout(settings.dropout, generator=None) if settings.dropout else None
        o_BGRTV = _empty_rows((*q_BGRTK.shape[:4], v_BGSV.shape[3]), settings.dtype, q_BGRTK.device)
        # Contiguous, so that blocks are views. Casts come before: both at once is slower.
        q_BGRTK, k_BGSK, v_BGSV = (x.to(settings.dtype) for x in (q_BGRTK, k_BGSK, v_BGSV))
        q_BGRTK = torch.mul(q_BGRTK, settings.scale, out=q_BGRTK.new_empty(q_BGRTK.shape))
        k_BGSK, v_BGSV = k_BGSK.contiguous(), v_BGSV.contiguous()
        stored = []
        for block in ctx.blocks:
            weights = _weights(block.rows(q_BGRTK), block.sets(k_BGSK), mask, block, settings.causal, drops)
            if settings.store:
                stored.append(weights)
            o_NMV = _product(weights if drops is None else weights.relu(), block.sets(v_BGSV))
            block.write(o_BGRTV, o_NMV, 1.0 if drops is None else drops.scale)
        ctx.save_for_backward(q_BGRTK, k_BGSK, v_BGSV, mask, o_BGRTV, *stored)
        return o_BGRTV

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True; what follows would pass as constant, without a word
            raise ConfigError('backend="chunked" has no second derivatives; use backend="reference" for them')
        (grad_o_BGRTV,) = grad_outputs
        q_BGRTK, k_BGSK, v_BGSV, mask, o_BGRTV, *stored = ctx.saved_tensors
        settings: _Settings = ctx.settings
        drops = None
        if settings.dropout:
            generator = torch.Generator(q_BGRTK.device)
            generator.set_state(ctx.generator_state)
            drops = _Dropout(settings.dropout, generator)
        factor = 1.0 if drops is None else drops.scale
        grad_o_BGRTV = torch.mul(grad_o_BGRTV, factor, out=grad_o_BGRTV.new_empty(grad_o_BGRTV.shape))
        grad_q = _empty_rows(q_BGRTK.shape, ctx.input_dtypes[0], q_BGRTK.device)
        whole = ctx.blocks[0].queries.start == 0
        grad_k, grad_v = _empty_sums(k_BGSK, whole), _empty_sums(v_BGSV, whole)
        with without_autocast(q_BGRTK.device):
            for number, block in enumerate(ctx.blocks):
                q_NMK, k_NSK, grad_o_NMV = block.rows(q_BGRTK), block.sets(k_BGSK), block.rows(grad_o_BGRTV)
                if settings.store:
                    weights = stored[number]
                else:
                    weights = _weights(q_NMK, k_NSK, mask, block, settings.causal, drops)
                grad_s = _scores(grad_o_NMV, block.sets(v_BGSV))
                row_sums = block.row_sums(grad_o_BGRTV, o_BGRTV) / factor
                if drops is None:
                    left = weights
                    grad_s = grad_s.sub_(row_sums).mul_(weights)
                else:
                    left = weights.relu()
                    grad_s = grad_s.mul_(left).addcmul_(weights.abs(), row_sums, value=-1)
                grad_s = grad_s.to(q_NMK.dtype)
                block.write(grad_q, _product(grad_s, k_NSK), settings.scale)
                first = block.queries.stop == q_BGRTK.shape[3]
                _add_product(block.sets(grad_k), grad_s, q_NMK, first)
                _add_product(block.sets(grad_v), left, grad_o_NMV, first)
        return grad_q, grad_k.to(ctx.input_dtypes[1]), grad_v.to(ctx.input_dtypes[2]), None, None


class _Block(NamedTuple):
    """The part of (B, G, R, T) x S that is computed at once: either whole sets, or some queries of one set."""

    batch: slice
    kv_heads: slice
    queries: slice
    keys: slice

    def part(self, x_BGRTK: Tensor) -> Tensor:
        return x_BGRTK[self.batch, self.kv_heads, :, self.queries]

    def rows(self, x_BGRTK: Tensor) -> Tensor:
        return self.part(x_BGRTK).flatten(2, 3).flatten(0, 1)

    def sets(self, x_BGSK: Tensor) -> Tensor:
        return x_BGSK[self.batch, self.kv_heads, self.keys].flatten(0, 1)

    def row_sums(self, x_BGRTK: Tensor, y_BGRTK: Tensor) -> Tensor:
        x, y = self.part(x_BGRTK), self.part(y_BGRTK)
        return (x.to(_sum_dtype(x.dtype)) * y).sum(-1, keepdim=True).flatten(2, 3).flatten(0, 1)

    def write(self, target_BGRTK: Tensor, rows_NMK: Tensor, factor: float) -> None:
        target = self.part(target_BGRTK)
        rows_NMK = rows_NMK.to(target.dtype)
        target.copy_((rows_NMK if factor == 1 else rows_NMK.mul_(factor)).view(target.shape))

    def mask(self, mask: Tensor) -> Tensor:
        parts = (self.batch, self.kv_heads, slice(None), self.queries, self.keys)
        return mask[tuple(part if size > 1 else slice(None) for part, size in zip(parts, mask.shape, strict=True))]


def _blocks(shape: torch.Size, keys: int, causal: bool, device: torch.device) -> list[_Block]:
    batch, kv_heads, repeats, queries, _ = shape
    size = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    sets = size // (repeats * queries * keys)
    if sets >= kv_heads:
        steps = sets // kv_heads, kv_heads, queries
    elif sets >= 1:
        steps = 1, sets, queries
    else:
        most = max(_FEWEST_QUERIES, size // (repeats * keys))
        steps = 1, 1, -(-queries // -(-queries // most))
    return [
        _Block(
            slice(b, min(b + steps[0], batch)),
            slice(g, min(g + steps[1], kv_heads)),
            slice(t, min(t + steps[2], queries)),
            # No query of the block sees the keys after its last one.
            slice(0, keys - queries + min(t + steps[2], queries) if causal else keys),
        )
        for b in range(0, batch, steps[0])
        for g in range(0, kv_heads, steps[1])
        # The last queries first: when causal, theirs are the only blocks with all keys.
        for t in reversed(range(0, queries, steps[2]))
    ]


class _Dropout:
    """Draws which weights are set to zero, from 16 random bits each; torch's own dropout takes several times longer."""

    def __init__(self, probability: float, generator: torch.Generator | None) -> None:
        self.level = min(round(probability * 2**15), 2**15 - 1)
        self.scale = 1 / (1 - self.level / 2**15)
        self.generator = generator

    def draw(self, like: Tensor) -> Tensor:
        """Return 1 for each weight that is taken and 0 for the others."""
        words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
        words.random_(-(2**63), None, generator=self.generator)
        bits = words.view(torch.int16)[: like.numel()]
        # Fifteen bits minus the level are negative with the probability asked for; the shift leaves -1 or 0.
        bits.bitwise_and_(2**15 - 1).sub_(self.level).bitwise_right_shift_(15).neg_()
        return bits.view(like.shape).to(like.dtype)


def _weights(
    q_NMK: Tensor, k_NSK: Tensor, mask: Tensor | None, block: _Block, causal: bool, drops: _Dropout | None
) -> Tensor:
    """Return the weights of a block, negated where dropout takes them; `q_NMK` is scaled."""
    scores = _scores(q_NMK, k_NSK)
    queries, keys = block.queries.stop - block.queries.start, k_NSK.shape[1]
    if mask is not None:
        allowed = block.mask(mask)
        if causal:
            allowed = allowed & causal_mask(queries, keys, device=mask.device)
        per_query = (
            block.batch.stop - block.batch.start,
            block.kv_heads.stop - block.kv_heads.start,
            -1,
            queries,
            keys,
        )
        scores.view(per_query).add_(_number(allowed, scores.dtype).sub_(1).mul_(-_MASKED))
        weights = scores.softmax(-1)
        weights.view(per_query).mul_(_number(allowed.any(-1, keepdim=True), scores.dtype))
    else:
        if causal:
            # Among the last keys only, one for each query, are there any that come after a query.
            last = scores.view(scores.shape[0], -1, queries, keys)[..., -queries:]
            last += _number(causal_mask(queries, device=scores.device)[0], scores.dtype).sub_(1).mul_(-_MASKED)
        weights = scores.softmax(-1)
    if drops is not None:
        weights.addcmul_(weights, drops.draw(weights), value=-2)
    return weights.to(q_NMK.dtype)


def _number(mask: Tensor, dtype: torch.dtype) -> Tensor:
    # torch converts bytes with vector instructions, and bools one by one.
    return mask.view(torch.uint8).to(dtype)


def _scores(q_NMK: Tensor, k_NSK: Tensor) -> Tensor:
    return torch.bmm(q_NMK, k_NSK.mT).to(_sum_dtype(q_NMK.dtype))


def _product(weights_NMS: Tensor, x_NSK: Tensor) -> Tensor:
    weights_NMS = weights_NMS.to(x_NSK.dtype)
    if x_NSK.shape[2] < _NARROW:
        return torch.bmm(x_NSK.mT, weights_NMS.mT).mT
    return torch.bmm(weights_NMS, x_NSK)


def _empty_rows(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory for (B, G, R, T, K), laid out as (B, T, G, R, K): joining and splitting heads needs no copy."""
    batch, kv_heads, repeats, queries, dim = shape
    return torch.empty((batch, queries, kv_heads, repeats, dim), dtype=dtype, device=device).permute(0, 2, 3, 1, 4)


def _empty_sums(like_BGSK: Tensor, whole_sets: bool) -> Tensor:
    """Return memory for sums of products over blocks: in the faster layout, and not in half precision."""
    batch, kv_heads, keys, dim = like_BGSK.shape
    tall = keys >= _TALL * dim
    return torch.empty(
        (batch, kv_heads, dim, keys) if tall else (batch, kv_heads, keys, dim),
        dtype=like_BGSK.dtype if whole_sets else _sum_dtype(like_BGSK.dtype),
        device=like_BGSK.device,
    ).transpose(-1, -2 if tall else -1)


def _add_product(target_NSK: Tensor, weights_NMS: Tensor, x_NMK: Tensor, first: bool) -> None:
    """Add `weights.mT @ x` to a part of what `_empty_sums` returned, or write it there when it is the first."""
    target, left, right = target_NSK, weights_NMS.mT, x_NMK
    if target.stride(-1) != 1:
        target, left, right = target_NSK.mT, x_NMK.mT, weights_NMS
    if target.dtype == x_NMK.dtype:
        target.baddbmm_(left, right, beta=0 if first else 1)
    elif first:
        target.copy_(torch.bmm(left, right))
    else:
        target.add_(torch.bmm(left, right))


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
