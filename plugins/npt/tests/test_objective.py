"""The losses against the published code."""

from __future__ import annotations

import pytest
import torch
from setwise_npt.objective import annealed_tradeoff, cell_losses, masked_loss, total_loss

TRADEOFFS = (0.0, 0.25, 1.0, -1)


def test_losses_equal_the_published_ones(loss_golden):
    columns, tensors = loss_golden.columns, loss_golden.tensors
    values, codes, _ = loss_golden.table("truth")
    losses = cell_losses(loss_golden.outputs(), values, codes, columns)
    label = masked_loss(losses, tensors["mask.label_loss"][None].bool())
    feature = masked_loss(losses, tensors["mask.feature"][None].bool())
    for tradeoff in TRADEOFFS:
        expected = tensors[f"total.tradeoff_{tradeoff}"]
        torch.testing.assert_close(total_loss(label, feature, tradeoff)[0], expected, atol=1e-5, rtol=0)
