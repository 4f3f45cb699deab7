"""Rotary position embedding: positions enter attention as rotations, so that scores depend on differences only."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setwise.errors import ConfigError, ShapeError

__all__ = ["RotaryEmbedding"]


class RotaryEmbedding(nn.Module):
    r"""Rotates pairs of neighbouring channels by angles that grow with the position (Su et al., 2021, eq. 34).

    .. math::
        (x_{2i}, x_{2i+1}) \mapsto (x_{2i} \cos p\theta_i - x_{2i+1} \sin p\theta_i,\;
        x_{2i} \sin p\theta_i + x_{2i+1} \cos p\theta_i), \quad \theta_i = \text{base}^{-2i / \text{dim}}

    There are no parameters. Angles, sines and cosines are float32 in every precision of the model.

    Args:
        head_dim: width of a head.
        dim: number of channels that are rotated, the first ones; all when None.
        base: ratio between the slowest and the fastest rotation, nearly.

    Raises:
        ConfigError: `dim` is odd, less than 2 or more than `head_dim`, or `base` is not positive.

    Example:
        >>> rotary = RotaryEmbedding(4)
        >>> rotary(torch.ones(1, 2, 3, 4), torch.arange(3)).shape
        torch.Size([1, 2, 3, 4])
    """

    def __init__(self, head_dim: int, *, dim: int | None = None, base: float = 10_000.0) -> None:
        super().__init__()
        rotated = head_dim if dim is None else dim
        if rotated % 2 or not 2 <= rotated <= head_dim:
            what = f"head_dim={head_dim}" if dim is None else f"dim={dim}"
            raise ConfigError(
                f"{what} channels cannot be rotated in pairs; give an even number from 2 to head_dim={head_dim}"
            )
        if not base > 0:
            raise ConfigError(f"base={base} must be positive; 10000 is usual")
        self.head_dim, self.dim, self.base = head_dim, rotated, base

    def forward(
        self, x: Float[Tensor, "batch heads tokens head_dim"], positions: Tensor
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        """Return `x` rotated.

        Args:
            x: queries or keys.
            positions: integers or floats of shape (tokens,), (batch, tokens) or (batch, tokens, 1).

        Raises:
            ShapeError: positions have another shape.
        """
        angles = self._angles(positions, batch=x.shape[0], tokens=x.shape[2])
        cos, sin = angles.cos(), angles.sin()
        pairs = x[..., : self.dim].to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2))
        even, odd = pairs.unbind(-1)
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
        return torch.cat((rotated, x[..., self.dim :]), dim=-1) if self.dim < self.head_dim else rotated

    def _angles(self, positions: Tensor, *, batch: int, tokens: int) -> Tensor:
        """Return the angles as (1 or batch, 1, tokens, dim / 2), which broadcasts over heads."""
        if positions.dim() == 3 and positions.shape[2] == 1:
            positions = positions.squeeze(2)
        if tuple(positions.shape) not in ((tokens,), (1, tokens), (batch, tokens)):
            raise ShapeError(
                f"positions have shape {tuple(positions.shape)}; expected (tokens,) = {(tokens,)}, "
                f"(batch, tokens) = {(batch, tokens)} or (batch, tokens, 1)"
            )
        exponents = torch.arange(0, self.dim, 2, dtype=torch.float32, device=positions.device) / self.dim
        angles = positions.to(torch.float32)[..., None] * self.base**-exponents
        return angles.reshape(-1, 1, tokens, self.dim // 2)

    def extra_repr(self) -> str:
        return f"{self.head_dim}, dim={self.dim}, base={self.base}"
