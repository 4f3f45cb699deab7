"""What an attention layer is: anything that lets the tokens of one set exchange information."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from setwise.errors import SetwiseError

__all__ = ["AbstractAttention"]


class AbstractAttention(nn.Module, ABC):
    """A layer from (batch, tokens, dim) to (batch, tokens, dim) in which tokens see one another.

    Subclasses set `dim` and `invariances`, and implement `forward`. Causal ones can implement `init_cache` and
    `step`, for generating token after token. What they compute on the way is read with
    :func:`~setwise.attention.capture.capture`; they return one tensor.

    Attributes:
        dim: width of the tokens.
        invariances: what holds of this layer, out of `INVARIANCES`; `setwise.testing` checks every claim.
        INVARIANCES: `"permutation"`: permuting the tokens (with mask and positions) permutes the output.
            `"padding"`: what masked tokens hold does not change the output of the others.
            `"causal"`: what later tokens hold does not change the output of earlier ones.
            `"translation"`: adding a constant to all positions does not change the output.

    Example:
        >>> import torch
        >>> class MeanAttention(AbstractAttention):
        ...     invariances = frozenset({"permutation"})
        ...     def __init__(self, dim: int) -> None:
        ...         super().__init__()
        ...         self.dim = dim
        ...     def forward(self, x, *, mask=None, positions=None):
        ...         return x.mean(1, keepdim=True).expand_as(x)
        >>> MeanAttention(3)(torch.ones(1, 2, 3)).shape
        torch.Size([1, 2, 3])
    """

    INVARIANCES: ClassVar[frozenset[str]] = frozenset({"permutation", "padding", "causal", "translation"})
    dim: int
    invariances: frozenset[str] = frozenset()

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Tensor | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return the tokens after each has seen the others.

        Args:
            x: tokens.
            mask: True = may be attended: (batch, tokens) for padding, or four axes that broadcast to
                (batch, heads, tokens, tokens); None = all.
            positions: where the tokens are, (batch, tokens) or (batch, tokens, axes); layers without positions
                ignore it. 0, 1, 2, … when None.
        """

    def init_cache(self, batch: int, max_tokens: int) -> Any:
        """Return an empty cache for :meth:`step`.

        Args:
            batch: number of sequences.
            max_tokens: number of tokens that will be seen, at most.

        Raises:
            SetwiseError: the layer cannot take tokens one after the other.
        """
        raise SetwiseError(self._no_steps())

    def step(self, x_t: Float[Tensor, "batch new_tokens dim"], cache: Any) -> Float[Tensor, "batch new_tokens dim"]:
        """Return what `forward` on all tokens so far would return for the new ones, and put these into the cache.

        Args:
            x_t: the next token or tokens.
            cache: from :meth:`init_cache`; it is changed.

        Raises:
            SetwiseError: the layer cannot take tokens one after the other, or the cache is full.
        """
        raise SetwiseError(self._no_steps())

    def _no_steps(self) -> str:
        name = type(self).__name__
        if "causal" in self.invariances:
            return f"{name} is causal but has no init_cache and step; call it on all tokens at once"
        return f"{name} is not causal: earlier tokens see later ones, so it cannot take them one after the other"
