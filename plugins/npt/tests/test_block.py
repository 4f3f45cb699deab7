"""The attention block against the published code, its options against closed forms."""

from __future__ import annotations

import pytest
import torch
from setwise.errors import ConfigError
from setwise_npt.block import MultiheadAttentionBlock
from setwise_npt.config import BlockOptions

_DIM, _HEADS = 6, 2


def test_output_equals_the_published_block(mab_golden):
    x, y = mab_golden.tensors["X"], mab_golden.tensors["Y"]
    torch.testing.assert_close(mab_golden.block()(x, y), mab_golden.tensors["out"], atol=1e-5, rtol=0)
