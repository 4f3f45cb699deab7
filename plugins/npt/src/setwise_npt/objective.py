"""The losses of NPT: label loss and feature loss over chosen cells, and their annealed trade-off.

Kossen et al., 2021, section 2.4 and appendix C.2; the published code's quirks are kept and named.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from setwise_npt.columns import ColumnOutputs, Columns


class MaskedLoss(NamedTuple):
    """A loss summed over chosen cells of each set, and their number."""

    total: Float[Tensor, " sets"]
    num_cells: Float[Tensor, " sets"]

    @property
    def mean(self) -> Float[Tensor, " sets"]:
        """The mean over the chosen cells of each set; 0 where none is chosen."""
        return self.total / self.num_cells.clamp(min=1)


def cell_losses(
    outputs: ColumnOutputs,
    values: Float[Tensor, "sets rows columns"],
    codes: Int[Tensor, "sets rows columns"],
    columns: Columns,
) -> Float[Tensor, "sets rows columns"]:
    """Return the loss of every cell: squared error in standardised units, or cross-entropy in nats.

    Args:
        outputs: what the model says.
        values: true standardised numbers; finite everywhere.
        codes: true categories; valid everywhere.
        columns: the table's columns.
    """
    constants = columns.tensors(values.device)
    losses = [(outputs.numeric.float() - values.index_select(2, constants.numeric)).square()]
    for logits, bucket in zip(outputs.categorical, constants.buckets, strict=True):
        truth = codes.index_select(2, bucket)
        flat = F.cross_entropy(logits.float().flatten(0, 2), truth.flatten(), reduction="none")
        losses.append(flat.view(truth.shape))
    return torch.cat(losses, dim=2).index_select(2, constants.order)


def masked_loss(losses: Float[Tensor, "sets rows columns"], chosen: Bool[Tensor, "sets rows columns"]) -> MaskedLoss:
    """Sum the losses of the chosen cells, each set by itself."""
    return MaskedLoss(torch.where(chosen, losses, 0.0).sum((1, 2)), chosen.sum((1, 2)).to(losses.dtype))


def total_loss(label: MaskedLoss, feature: MaskedLoss, tradeoff: float) -> Float[Tensor, " sets"]:
    r"""Weigh the two losses of each set.

    .. math:: L = \lambda L_\mathrm{features} + (1 - \lambda) L_\mathrm{labels}

    with the mean over its own cells for each; or, where :math:`\lambda = -1`, the mean over the cells of both.
    """
    if tradeoff == -1:
        return MaskedLoss(label.total + feature.total, label.num_cells + feature.num_cells).mean
    return tradeoff * feature.mean + (1 - tradeoff) * label.mean


def annealed_tradeoff(
    step: int,
    num_steps: int,
    *,
    initial: float,
    annealing: Literal["constant", "linear", "cosine"],
    proportion: float,
) -> float:
    """Return the trade-off for the step after ``step`` finished ones.

    With S = ceil(proportion * num_steps) and k = step - 1 it is ``initial / 2 (cos(pi k / S) + 1)`` or
    ``initial (1 - k / S)``, and 0 once k > S. As in the published code the first two steps both use ``initial``.

    Args:
        step: number of finished optimizer steps.
        num_steps: number of all steps.
        initial: trade-off at the start; -1 is never annealed.
        annealing: its shape.
        proportion: share of all steps after which it is 0.

    Example:
        >>> [round(annealed_tradeoff(step, 4, initial=1.0, annealing="linear", proportion=1.0), 2) for step in range(6)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if annealing == "constant" or initial == -1 or step == 0:
        return initial
    length, place = math.ceil(proportion * num_steps), step - 1
    if place > length:
        return 0.0
    if annealing == "linear":
        return initial * (1 - place / length)
    return initial / 2 * (math.cos(math.pi * place / length) + 1)
