"""The model against the published code, and the properties the paper claims of it."""

from __future__ import annotations

import pytest
import torch
from setwise.data.spec import Categorical, Continuous, DataSpec, Image
from setwise.errors import DataError, ShapeError
from setwise_npt.columns import Columns
from setwise_npt.config import NptOptions
from setwise_npt.model import NonParametricTransformer, build_npt


def test_outputs_and_every_layer_equal_the_published_model(stack_golden):
    model, columns = stack_golden.model(), stack_golden.columns
    values, codes, masked = stack_golden.table("x")
    cells = model.embedding(values, codes, masked)
    torch.testing.assert_close(cells[0], stack_golden.tensors["h0"], atol=1e-5, rtol=0)
    for number, block in enumerate(model.blocks):
        cells = block(cells, None)
        torch.testing.assert_close(cells[0], stack_golden.tensors[f"h{number + 1}"], atol=1e-5, rtol=0)
    outputs = model(values, codes, masked)
    for j in range(len(columns)):
        torch.testing.assert_close(columns.column(outputs, j)[0], stack_golden.tensors[f"y.{j}"], atol=1e-5, rtol=0)
