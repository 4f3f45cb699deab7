"""The model against the published code, and the properties that are claimed of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from setwise.attention import capture
from setwise.data.spec import Categorical, Continuous, DataSpec
from setwise.errors import ShapeError
from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.config import NptOptions
from setwise_npt.model import NonParametricTransformer, build_npt

_COLUMNS = Columns(sizes=(0, 3, 0, 2, 5), targets=(3,))


def _model(columns: Columns = _COLUMNS, **options: Any) -> NonParametricTransformer:
    torch.manual_seed(0)
    chosen = {"column_dim": 8, "num_heads": 2, "num_layers": 4} | options
    return NonParametricTransformer(columns, NptOptions(**chosen)).eval()


def _table(rows: int, *, sets: int = 1, columns: Columns = _COLUMNS) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape, sizes = (sets, rows, len(columns)), torch.tensor(columns.sizes)
    values = torch.randn(shape, generator=generator) * (sizes == 0)
    codes = (torch.rand(shape, generator=generator) * sizes).long()
    return values, codes, torch.rand(shape, generator=generator) < 0.2


def _flat(outputs: ColumnOutputs) -> Tensor:
    return torch.cat([outputs.numeric, *(logits.flatten(2) for logits in outputs.categorical)], 2)


def test_outputs_and_every_layer_equal_the_published_model(stack_golden):
    model, columns, tensors = stack_golden.model(), stack_golden.columns, stack_golden.tensors
    values, codes, masked = stack_golden.table("x")
    cells = model.embedding(values, codes, masked)
    torch.testing.assert_close(cells[0], tensors["h0"], atol=1e-5, rtol=0)
    layers: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: layers.append(output))
    with capture(model) as maps:
        outputs = model(values, codes, masked)
    for name, expected in stack_golden.under("att.").items():
        (weights,) = maps[f"blocks.{name}.weights"]
        torch.testing.assert_close(weights.transpose(0, 1), expected, atol=1e-5, rtol=0)
    for number, layer in enumerate(layers):
        expected = tensors[f"h{number + 1}"]
        torch.testing.assert_close(layer.view_as(expected), expected, atol=1e-5, rtol=0)
    for j in range(len(columns)):
        torch.testing.assert_close(columns.column(outputs, j)[0], tensors[f"y.{j}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [len(_COLUMNS), 11], ids=["as_many_rows_as_columns", "more_rows"])
def test_permuting_the_rows_permutes_the_outputs(rows: int):
    model, table = _model(), _table(rows)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(2))
    permuted = model(*(tensor[:, order] for tensor in table))
    torch.testing.assert_close(_flat(permuted), _flat(model(*table))[:, order])


def test_other_rows_are_used_and_other_sets_are_not():
    model, (values, codes, masked) = _model(), _table(7, sets=2)
    changed = values.clone()
    changed[0, 0, 0] += 1
    masked = torch.zeros_like(masked)
    before, after = _flat(model(values, codes, masked)), _flat(model(changed, codes, masked))
    assert before[0, 1:].ne(after[0, 1:]).any(-1).all()
    assert before[1].equal(after[1])


def test_masked_cells_never_change_any_output():
    model, (values, codes, masked) = _model(), _table(11)
    others = torch.where(masked, values + 7, values), torch.where(masked, 0, codes), masked
    assert _flat(model(values, codes, masked)).equal(_flat(model(*others)))


def test_padding_rows_never_change_the_rows_that_are_there():
    model, (values, codes, masked) = _model(), _table(11, sets=2)
    present = torch.ones(2, 11, dtype=torch.bool)
    present[0, 7:] = False
    outputs = _flat(model(values, codes, masked, present=present))
    alone = _flat(model(values[:1, :7], codes[:1, :7], masked[:1, :7]))
    torch.testing.assert_close(outputs[:1, :7], alone)
    torch.testing.assert_close(outputs[1:], _flat(model(values[1:], codes[1:], masked[1:])))
    assert outputs[outputs > -torch.inf].isfinite().all()


def test_a_state_dict_makes_another_model_the_same():
    model, other = _model(), _model(dropout=0.3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    other.load_state_dict(model.state_dict())
    assert _flat(other(*_table(7))).equal(_flat(model(*_table(7))))


def test_gradients_reach_every_parameter():
    model = _model().train()
    outputs = _flat(model(*_table(11)))
    outputs[outputs > -torch.inf].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("key.bias") or parameter.grad.ne(0).any(), name


@pytest.mark.parametrize(
    ("layers", "widths"),
    [
        ("hybrid", [40, 8, 40, 8]),
        ("rows", [40, 40, 40, 40]),
        ("columns", [8, 8, 8, 8]),
    ],
)
def test_layers_attend_between_what_they_are_told_to(layers: str, widths: list[int]):
    """Between five columns of width 8 a token is 8 wide, between rows 40."""
    assert [block.query.in_features for block in _model(layers=layers).blocks] == widths


def test_attention_between_columns_alone_leaves_rows_to_themselves():
    model, table = _model(layers="columns"), _table(7)
    torch.testing.assert_close(_flat(model(*table))[:, :3], _flat(model(*(tensor[:, :3] for tensor in table))))


def test_the_number_of_parameters_is_the_papers():
    columns, dim, layers = Columns((0,) * 30 + (2,), (30,)), 32, 8
    model = build_npt(
        NptOptions(column_dim=dim, num_layers=layers),
        data=DataSpec(tuple(Continuous(f"x{i}") for i in range(30)), (Categorical("y", ("b", "m")),)),
    )
    width = len(columns) * dim
    blocks = layers // 2 * (13 * width**2 + 14 * width + 13 * dim**2 + 14 * dim)
    embedding = sum((max(1, size) + 2) * dim for size in columns.sizes) + 2 * dim + len(columns) * dim
    heads = sum((dim + 1) * max(1, size) for size in columns.sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == blocks + embedding + heads


class _LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("score_norm", ["softmax", "constant"])
def test_no_matrix_of_rows_by_rows_arises_in_training_nor_is_one_kept_in_parts(score_norm: str):
    columns, rows = Columns((0, 2), (1,)), 4099
    model = _model(columns, num_layers=2, score_norm=score_norm).train()
    largest, kept = _LargestTensor(), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _flat(model(*_table(rows, columns=columns))).sum().backward()
    assert largest.elements < rows * rows / 8
    assert sum(kept) < rows * rows / 4


@pytest.mark.wrong_shapes
@pytest.mark.wrong_shapes
def test_tensors_of_different_shapes_are_refused():
    values, codes, masked = _table(5)
    with pytest.raises(ShapeError, match=r"must have one shape \(sets, rows, columns\), got \(1, 5, 5\), \(1, 3, 5\)"):
        _model()(values, codes[:, :3], masked)


def test_a_table_of_another_width_is_refused():
    with pytest.raises(ShapeError, match="the table has 3 columns, the model was built for 5"):
        _model()(*(tensor[..., :3] for tensor in _table(5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 3}, "num_layers=3 must be even for layers=hybrid.*try 4"),
        ({"column_dim": 12, "num_heads": 8}, "num_heads=8 must divide column_dim=12; allowed: 1, 2, 3, 4, 6, 12"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, int], message: str):
    with pytest.raises(ValidationError, match=message):
        NptOptions(**options)
