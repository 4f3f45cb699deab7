"""The keys and values of tokens that were already seen, for generating one token after the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from setwise.errors import ConfigError, ShapeError

__all__ = ["KVCache"]


class KVCache:
    """Keys and values of up to `max_tokens` tokens, in memory that is taken once and written in place.

    Device, dtype and widths are those of what is put in first. Gradients do not pass through.

    Args:
        batch: number of sequences.
        max_tokens: number of tokens there is room for.

    Raises:
        ConfigError: a size is less than 1.

    Example:
        >>> import torch
        >>> cache = KVCache(2, max_tokens=5)
        >>> k, v = cache.append(torch.zeros(2, 4, 3, 8), torch.zeros(2, 4, 3, 8))
        >>> len(cache), k.shape
        (3, torch.Size([2, 4, 3, 8]))
    """

    def __init__(self, batch: int, *, max_tokens: int) -> None:
        if batch < 1 or max_tokens < 1:
            raise ConfigError(f"a cache for batch={batch} and max_tokens={max_tokens} holds nothing; both must be >= 1")
        self.batch, self.max_tokens = batch, max_tokens
        self._length = 0
        self._memory: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of tokens seen so far."""
        return self._length

    def append(
        self,
        k_BGTK: Float[Tensor, "batch kv_heads new_tokens key_dim"],
        v_BGTV: Float[Tensor, "batch kv_heads new_tokens value_dim"],
    ) -> tuple[Float[Tensor, "batch kv_heads tokens key_dim"], Float[Tensor, "batch kv_heads tokens value_dim"]]:
        """Put in new tokens and return views of the keys and values of all tokens so far.

        Raises:
            ShapeError: there is no room for them, or the batch is another.
        """
        batch, _, new_tokens, _ = k_BGTK.shape
        end = self._length + new_tokens
        if batch != self.batch:
            raise ShapeError(f"batch={batch} does not fit a cache for batch={self.batch}; call init_cache({batch}, …)")
        if end > self.max_tokens:
            raise ShapeError(
                f"{new_tokens} more tokens do not fit a cache that holds {self._length} of max_tokens="
                f"{self.max_tokens}; call init_cache with max_tokens >= {end}"
            )
        if self._memory is None:
            self._memory = (_room_like(k_BGTK, self.max_tokens), _room_like(v_BGTV, self.max_tokens))
        keys, values = self._memory
        keys[:, :, self._length : end] = k_BGTK.detach()
        values[:, :, self._length : end] = v_BGTV.detach()
        self._length = end
        return keys[:, :, :end], values[:, :, :end]


def _room_like(x_BGTK: Tensor, tokens: int) -> Tensor:
    batch, kv_heads, _, dim = x_BGTK.shape
    return x_BGTK.new_empty(batch, kv_heads, tokens, dim)
