"""Attention masks: boolean, True = may be attended."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from setwise.errors import ShapeError

__all__ = ["as_attention_mask", "causal_mask", "combine_masks", "padding_mask"]


def padding_mask(lengths: Int[Tensor, " batch"], max_length: int) -> Bool[Tensor, "batch tokens"]:
    """Return the mask of sequences that are padded at their end.

    Args:
        lengths: number of real tokens of each sequence.
        max_length: number of tokens with padding.

    Example:
        >>> padding_mask(torch.tensor([1, 3]), 3)
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def causal_mask(
    queries: int, keys: int | None = None, *, device: torch.device | None = None
) -> Bool[Tensor, "1 1 queries keys"]:
    """Return the mask under which a token attends to itself and to those before it.

    The last query is the last key: with more keys than queries, the first keys are the past, held in a cache.

    Args:
        queries: number of queries.
        keys: number of keys; as many as queries when None.
        device: where the mask is made.

    Example:
        >>> causal_mask(2, 3)
        tensor([[[[ True,  True, False],
                  [ True,  True,  True]]]])
    """
    keys = queries if keys is None else keys
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)[None, None]


def combine_masks(*masks: Tensor | None) -> Bool[Tensor, "batch heads queries keys"] | None:
    """Return the mask of what all masks allow; None, which allows everything, when all are None.

    Args:
        masks: each (batch, keys) or with four axes that broadcast to (batch, heads, queries, keys).

    Raises:
        ShapeError: a mask is not boolean, or has neither two nor four axes.

    Example:
        >>> combine_masks(padding_mask(torch.tensor([1, 2]), 2), None, causal_mask(2)).shape
        torch.Size([2, 1, 2, 2])
    """
    combined = None
    for mask in masks:
        if mask is not None:
            mask = _with_four_axes(mask)
            combined = mask if combined is None else combined & mask
    return combined


def as_attention_mask(
    mask: Tensor, *, batch: int, heads: int, queries: int, keys: int
) -> Bool[Tensor, "batch_or_1 heads_or_1 queries_or_1 keys_or_1"]:
    """Check a mask and give it four axes.

    Args:
        mask: bool, True = may be attended: (batch, keys) for padding, otherwise four axes that broadcast to
            (batch, heads, queries, keys).
        batch: number of sets.
        heads: number of query heads.
        queries: number of queries.
        keys: number of keys.

    Returns:
        A view of the mask with four axes, each of its full size or 1.

    Raises:
        ShapeError: the mask is not boolean or does not broadcast.

    Example:
        >>> as_attention_mask(torch.ones(2, 3, dtype=torch.bool), batch=2, heads=4, queries=3, keys=3).shape
        torch.Size([2, 1, 1, 3])
    """
    four = _with_four_axes(mask)
    expected = (batch, heads, queries, keys)
    if any(given not in (1, full) for given, full in zip(four.shape, expected, strict=True)):
        hint = ""
        if mask.dim() == 2 and tuple(mask.shape) == (queries, keys):
            hint = "; a mask of (queries, keys) that all sets share is given as mask[None, None]"
        raise ShapeError(
            f"mask has shape {tuple(mask.shape)}; expected (batch, keys) = {(batch, keys)} or four axes that "
            f"broadcast to (batch, heads, queries, keys) = {expected}{hint}"
        )
    return four


def _with_four_axes(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        raise ShapeError(
            f"mask has dtype {mask.dtype}; expected torch.bool, True = may be attended. Write mask.bool() for a mask "
            "of ones and zeros, and mask == 0 for one of zeros and -inf that is added to the scores"
        )
    if mask.dim() == 2:
        return mask[:, None, None, :]
    if mask.dim() == 4:
        return mask
    hint = "; give one of (batch, queries, keys) as mask[:, None]" if mask.dim() == 3 else ""
    raise ShapeError(
        f"mask has shape {tuple(mask.shape)}; expected (batch, keys) or (batch, heads, queries, keys){hint}"
    )
