"""The objective as a task: what a step returns, what it may not depend on, and what is predicted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from setwise.data.sets import collate_sets
from setwise.data.spec import Categorical, Continuous, DataSpec, Image
from setwise.errors import ConfigError, DataError
from setwise.tasks.task import StepContext, StepOutput
from setwise_npt.config import ByMode, MaskedModellingOptions, NptOptions
from setwise_npt.model import build_npt
from setwise_npt.task import MaskedModelling

_BOTH = DataSpec(
    (Continuous("age", mean=40.0, std=10.0), Categorical("colour", ("red", "green", "blue"))),
    (Categorical("ill", ("no", "yes")), Continuous("weight", mean=70.0, std=5.0)),
)
_ILL = DataSpec(_BOTH.inputs, _BOTH.targets[:1])
_WEIGHT = DataSpec(_BOTH.inputs, _BOTH.targets[1:])
_HALF = {"label_mask": ByMode(train=0.5), "feature_mask": ByMode(train=0.3)}


def _set(
    spec: DataSpec, *, train: int = 11, val: int = 7, test: int = 5, new: int = 0, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    split = torch.arange(4).repeat_interleave(torch.tensor([train, val, test, new]))
    sizes = torch.tensor([field.num_categories if isinstance(field, Categorical) else 0 for field in spec.columns])
    shape = (len(split), len(sizes))
    missing = torch.rand(shape, generator=generator) < 0.1
    missing[:, len(spec.inputs) :] = (split == 3)[:, None]
    values = torch.randn(shape, generator=generator) * (sizes == 0)
    codes = (torch.rand(shape, generator=generator) * sizes).long()
    return {
        "values": values.masked_fill(missing, 0),
        "codes": codes.masked_fill(missing, 0),
        "missing": missing,
        "split": split,
        "row_id": torch.arange(len(split)),
    }


def _model(spec: DataSpec) -> nn.Module:
    torch.manual_seed(0)
    return build_npt(NptOptions(column_dim=8, num_heads=2, num_layers=2, dropout=0.0, attention_dropout=0.0), data=spec)


def _context(split: str = "train", *, step: int = 0, num_steps: int = 10, sets: int = 1, **changes: Any) -> StepContext:
    options = {"epoch": 0, "seed": 0, "positions": range(sets), "training": split == "train"} | changes
    return StepContext(step=step, progress=step / num_steps, split=split, **options)


def _step(spec: DataSpec, items: list[dict[str, Tensor]], ctx: StepContext, **options: Any) -> StepOutput:
    return MaskedModelling(spec, MaskedModellingOptions(**options)).step(_model(spec), collate_sets(items), ctx)


class _Spy(nn.Module):
    """Remembers what a model was shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor, codes: Tensor, masked: Tensor, **keywords: Any) -> Any:
        self.seen = values, codes, masked
        return self.model(values, codes, masked, **keywords)


def test_training_counts_sets_and_evaluation_counts_labels():
    items = [_set(_BOTH, seed=seed) for seed in range(3)]
    training = _step(_BOTH, items, _context(sets=3))
    assert training.weight == 3
    evaluation = _step(_BOTH, items, _context("val", sets=3))
    assert evaluation.weight == 3 * 7 * 2
    assert evaluation.loss_sum.isfinite()


def test_the_loss_of_training_is_the_tradeoff_of_the_losses_it_logs():
    output = _step(_BOTH, [_set(_BOTH)], _context(step=6), tradeoff=0.8, tradeoff_annealing="linear", **_HALF)
    tradeoff = 0.8 * (1 - 5 / 10)
    scalars = output.scalars
    torch.testing.assert_close(scalars["tradeoff"], torch.tensor(tradeoff))
    expected = tradeoff * scalars["feature_loss"] + (1 - tradeoff) * scalars["label_loss"]
    torch.testing.assert_close(output.loss_sum.detach(), expected)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_changing_a_label_that_is_not_shown_changes_no_output(split: str):
    item = _set(_BOTH, seed=1)
    shown = {"train": [], "val": [0], "test": [0, 1]}[split]
    hidden_rows = ~torch.isin(item["split"], torch.tensor(shown, dtype=torch.int64))
    changed = {name: tensor.clone() for name, tensor in item.items()}
    changed["codes"][hidden_rows, 2] = 1 - changed["codes"][hidden_rows, 2]
    changed["values"][hidden_rows, 3] += 3
    seen = []
    for version in (item, changed):
        spy = _Spy(_model(_BOTH))
        task = MaskedModelling(_BOTH, MaskedModellingOptions(label_mask=ByMode(train=1)))
        task.step(spy, collate_sets([version]), _context(split))
        seen.append(spy.seen)
    assert all(ours.equal(other) for ours, other in zip(*seen, strict=True))


def test_labels_that_may_be_shown_are_used():
    item = _set(_ILL)
    changed = {name: tensor.clone() for name, tensor in item.items()}
    changed["codes"][item["split"] == 0, 2] ^= 1
    options = {"label_mask": ByMode(train=0.5)}
    ours, other = (_step(_ILL, [version], _context("val"), **options) for version in (item, changed))
    assert ours.loss_sum != other.loss_sum


def test_a_set_is_hidden_the_same_alone_and_padded_in_a_batch():
    small, large = _set(_BOTH, train=5), _set(_BOTH, seed=1)
    together = _step(_BOTH, [small, large], _context(step=3, sets=2), **_HALF)
    alone = [_step(_BOTH, [item], _context(step=3, positions=[i]), **_HALF) for i, item in enumerate((small, large))]
    torch.testing.assert_close(together.loss_sum, alone[0].loss_sum + alone[1].loss_sum)


def test_masks_differ_from_step_to_step_and_set_to_set_and_not_otherwise():
    losses = {
        key: _step(
            _BOTH, [_set(_BOTH)], _context(step=key[0], positions=[key[1]]), **_HALF, tradeoff_annealing="constant"
        )
        for key in ((1, 0), (1, 1), (2, 0))
    }
    assert len({output.loss_sum.item() for output in losses.values()}) == 3
    again = _step(_BOTH, [_set(_BOTH)], _context(step=1), **_HALF, tradeoff_annealing="constant")
    assert again.loss_sum == losses[1, 0].loss_sum


@pytest.mark.parametrize("tradeoff", [0.5, -1])
def test_a_set_with_nothing_to_predict_has_a_loss_of_zero_and_finite_gradients(tradeoff: float):
    model, task = _model(_ILL), MaskedModelling(_ILL, MaskedModellingOptions(tradeoff=tradeoff, feature_mask=ByMode()))
    output = task.step(model, collate_sets([_set(_ILL, train=0)]), _context())
    assert output.loss_sum == 0
    output.loss_sum.backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())


def test_an_evaluation_without_labels_has_no_weight_and_updates_no_metric():
    output = _step(_BOTH, [_set(_BOTH, val=0)], _context("val"))
    assert output.weight == 0
    assert output.loss_sum == 0
    assert not output.metrics


def _evaluate(spec: DataSpec, split: str, **options: Any) -> dict[str, float]:
    task, model = MaskedModelling(spec, MaskedModellingOptions(**options)), _model(spec)
    metrics = dict(task.metrics(split))
    for seed in range(2):
        ctx = _context(split, positions=[seed], training=False)
        for name, arguments in task.step(model, collate_sets([_set(spec, seed=seed)]), ctx).metrics.items():
            metrics[name].update(*arguments)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def test_metrics_are_those_of_the_predictions():
    task, model = MaskedModelling(_BOTH, MaskedModellingOptions()), _model(_BOTH)
    right, squares = [], []
    for seed in range(2):
        item = _set(_BOTH, seed=seed)
        rows = item["split"] == 1
        predictions = task.predict(model, collate_sets([item]), _context("val", positions=[seed]))
        decoded = task.decode(predictions)
        truth = ["yes" if code else "no" for code in item["codes"][rows, 2].tolist()]
        right += [ours == label for ours, label in zip(decoded["predicted_ill"], truth, strict=True)]
        weights = torch.tensor(decoded["predicted_weight"]) - (item["values"][rows, 3].double() * 5 + 70)
        squares += weights.square().tolist()
    metrics = _evaluate(_BOTH, "val")
    assert metrics.keys() == {"accuracy/ill", "auroc/ill", "rmse/weight"}
    assert metrics["accuracy/ill"] == pytest.approx(sum(right) / len(right))
    assert metrics["rmse/weight"] == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=1e-5)


def test_a_single_target_has_plain_names_and_hidden_features_a_loss():
    assert _evaluate(_WEIGHT, "train").keys() == {"rmse", "feature_loss"}
    assert _evaluate(_ILL, "val").keys() == {"accuracy", "auroc"}
    three = DataSpec((Continuous("x"),), (Categorical("kind", ("a", "b", "c")),))
    assert set(MaskedModelling(three, MaskedModellingOptions()).metrics("test")) == {"accuracy"}


def test_new_rows_are_predicted_in_their_order_from_the_labels_of_others():
    item = _set(_BOTH, new=3)
    spy = _Spy(_model(_BOTH))
    task = MaskedModelling(_BOTH, MaskedModellingOptions(label_mask=ByMode(train=0.5)))
    predictions = task.predict(spy, collate_sets([item]), _context("predict", training=False))
    hidden = spy.seen[2][0, :, 2:]
    assert not hidden[item["split"] <= 1].any()
    assert hidden[item["split"] >= 2].all()
    assert predictions["ill"].shape == (3, 2)
    torch.testing.assert_close(predictions["ill"].sum(-1), torch.ones(3))
    torch.testing.assert_close(predictions["weight"], spy.model(*spy.seen).numeric[0, -3:, 1:])
    decoded = task.decode(predictions)
    assert list(decoded) == ["predicted_ill", "probability_ill_no", "probability_ill_yes", "predicted_weight"]
    assert decoded["predicted_weight"] == pytest.approx((predictions["weight"][:, 0] * 5 + 70).tolist())


def test_predicting_the_training_rows_shows_none_of_their_labels():
    spy = _Spy(_model(_ILL))
    task = MaskedModelling(_ILL, MaskedModellingOptions(label_mask=ByMode(train=0.5)))
    predictions = task.predict(spy, collate_sets([_set(_ILL)]), _context(training=False))
    assert spy.seen[2][0, :, 2].all()
    assert list(task.decode(predictions)) == ["predicted_ill", "probability_no", "probability_yes"]


def test_single_rows_are_refused():
    batch = {name: tensor for name, tensor in _set(_ILL).items() if name in ("values", "codes", "missing")}
    with pytest.raises(ConfigError, match=r"sets of rows, the data serves single rows; set data\.set_size"):
        MaskedModelling(_ILL, MaskedModellingOptions()).step(_model(_ILL), batch, _context())


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (DataSpec(_BOTH.inputs), ConfigError, r"the data has none: set data\.target"),
        (DataSpec(_BOTH.inputs, (Categorical("ill", ("no",)),)), ConfigError, '"ill" has the only category "no"'),
        (DataSpec((Image("scan", 1, 2, 2),), _ILL.targets), DataError, 'column "scan" is of type Image'),
    ],
)
def test_data_that_cannot_be_modelled_is_refused(spec: DataSpec, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        MaskedModelling(spec, MaskedModellingOptions())


@pytest.mark.parametrize("tradeoff", [-0.5, 1.5])
def test_a_tradeoff_outside_of_its_range_is_refused(tradeoff: float):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], or -1 for one mean over all cells"):
        MaskedModellingOptions(tradeoff=tradeoff)
