from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from setwise.data.spec import Categorical, Continuous, DataSpec, Image, Tokens
from setwise.errors import ConfigError
from setwise.tasks import AbstractTask, Classification, LanguageModeling, Regression, StepContext

TRAINING = StepContext(0, 0, 0.0, "train", True, 0, range(3))
EVALUATION = StepContext(0, 0, 1.0, "val", False, 0, range(3))


class Answers(nn.Module):
    """A model that says what it was told to, and remembers what it was asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.asked: dict[str, Tensor] = {}

    def forward(self, **inputs: Tensor) -> Tensor:
        self.asked = inputs
        return self.answer


def table(
    values: list[list[float]], codes: list[list[int]], missing: list[list[bool]] | None = None
) -> dict[str, Tensor]:
    batch = {"values": torch.tensor(values), "codes": torch.tensor(codes)}
    return batch | {"missing": torch.tensor(missing) if missing else torch.zeros_like(batch["codes"]).bool()}


def measure(task: AbstractTask, model: nn.Module, *batches: Any) -> dict[str, float]:
    metrics = task.metrics("val")
    for batch in batches:
        for name, arguments in task.step(model, batch, EVALUATION).metrics.items():
            metrics[name].update(*arguments)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


ANIMALS = DataSpec((Continuous("size"), Continuous("age")), (Categorical("kind", ("cat", "dog")),))
ANIMAL_ROWS = table([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]], [[0, 0, 1], [0, 0, 0]])


def test_cross_entropy_of_a_closed_form() -> None:
    model = Answers(torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]]))
    out = Classification(ANIMALS).step(model, ANIMAL_ROWS, TRAINING)
    assert out.loss_sum.item() == pytest.approx(-math.log(0.75) - math.log(0.25))
    assert out.weight == 2


def test_the_model_of_a_table_never_sees_the_target() -> None:
    model = Answers(torch.zeros(2, 2))
    Classification(ANIMALS).step(model, ANIMAL_ROWS, TRAINING)
    assert {name: value.shape for name, value in model.asked.items()} == dict.fromkeys(
        ("values", "codes", "missing"), (2, 2)
    )


def test_label_smoothing_is_for_training_only() -> None:
    task = Classification(ANIMALS, label_smoothing=0.5)
    model = Answers(torch.tensor([[0.0, 9.0], [9.0, 0.0]]))
    train = task.step(model, ANIMAL_ROWS, TRAINING).loss_sum
    evaluated = task.step(model, ANIMAL_ROWS, EVALUATION).loss_sum
    assert evaluated.item() == pytest.approx(2 * math.log1p(math.exp(-9.0)), abs=1e-6)
    assert train.item() == pytest.approx(evaluated.item() + 2 * 9.0 * 0.25, rel=1e-4)


def test_classification_metrics_and_columns() -> None:
    task = Classification(ANIMALS)
    model = Answers(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    assert measure(task, model, ANIMAL_ROWS) == {"accuracy": 0.5, "auroc": 0.0}
    columns = task.decode(task.predict(model, ANIMAL_ROWS, EVALUATION))
    assert list(columns) == ["predicted_kind", "probability_cat", "probability_dog"]
    assert columns["predicted_kind"] == ["dog", "dog"]
    assert columns["probability_dog"][1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_images_are_given_by_name() -> None:
    data = DataSpec((Image("image", 1, 2, 2),), (Categorical("label", ("a", "b", "c")),))
    model = Answers(torch.zeros(3, 3))
    out = Classification(data).step(
        model, {"image": torch.ones(3, 1, 2, 2), "label": torch.tensor([0, 1, 2])}, EVALUATION
    )
    assert model.asked["image"].shape == (3, 1, 2, 2)
    assert out.loss_sum.item() == pytest.approx(3 * math.log(3))
    assert set(out.metrics) == {"accuracy"}


def test_squared_error_leaves_missing_targets_out_and_metrics_are_in_units_of_the_data() -> None:
    data = DataSpec((Continuous("x"),), (Continuous("price", mean=100.0, std=10.0), Continuous("size", std=2.0)))
    batch = table(
        [[0.0, 1.0, 3.0], [0.0, 2.0, 0.0]],
        [[0, 0, 0], [0, 0, 0]],
        [[False, False, False], [False, False, True]],
    )
    task, model = Regression(data), Answers(torch.tensor([[0.0, 3.0], [0.0, 7.0]]))
    out = task.step(model, batch, EVALUATION)
    assert out.loss_sum.item() == 1.0 + 4.0
    assert float(out.weight) == 3
    errors = [10.0, 20.0, 0.0]
    assert measure(task, model, batch) == {
        "rmse": pytest.approx(math.sqrt(sum(e * e for e in errors) / 3)),
        "mae": pytest.approx(sum(errors) / 3),
    }
    columns = task.decode(task.predict(model, batch, EVALUATION))
    assert columns == {"predicted_price": [100.0, 100.0], "predicted_size": [6.0, 14.0]}


def test_a_language_model_is_asked_for_the_token_after_each() -> None:
    task = LanguageModeling(DataSpec((Tokens("tokens", 5, 3),)))
    tokens = torch.tensor([[0, 1, 2, 3]])
    logits = torch.zeros(1, 3, 5)
    logits[0, :, 2] = math.log(6.0)
    model = Answers(logits)
    out = task.step(model, {"tokens": tokens}, EVALUATION)
    assert model.asked["tokens"].tolist() == [[0, 1, 2]]
    nll = -2 * math.log(0.1) - math.log(0.6)
    assert out.loss_sum.item() == pytest.approx(nll)
    assert out.weight == 3
    assert measure(task, model, {"tokens": tokens}) == {
        "perplexity": pytest.approx(math.exp(nll / 3)),
        "accuracy": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize(
    ("build", "data", "message"),
    [
        (Classification, DataSpec((Continuous("x"),)), r"the data has: none"),
        (Classification, DataSpec((), (Continuous("y"),)), r"y \(Continuous\)\. Choose another task\.name"),
        (Classification, DataSpec((), (Categorical("y", ("one",)),)), r'the only category "one"'),
        (
            Classification,
            DataSpec((), (Categorical("y", ("a", "b")), Categorical("z", ("a", "b")))),
            "predicts one target; the data has: y, z",
        ),
        (Regression, ANIMALS, r"regression predicts Continuous targets; the data has: kind \(Categorical\)"),
        (LanguageModeling, ANIMALS, r"needs text.*size \(Continuous\), age \(Continuous\)"),
    ],
)
def test_data_that_does_not_fit_is_refused(build: Any, data: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(data)


def test_sets_of_rows_are_refused_by_tasks_of_single_rows() -> None:
    batch = {name: value[None] for name, value in ANIMAL_ROWS.items()}
    with pytest.raises(ConfigError, match=r"remove data\.set_size"):
        Classification(ANIMALS).step(Answers(torch.zeros(1, 2)), batch, TRAINING)


def test_generators_of_the_context_are_functions_of_the_position() -> None:
    whole = StepContext(5, 0, 0.0, "train", True, 1, [0, 1, 2, 3])
    part = StepContext(5, 0, 0.0, "train", True, 1, [2, 3])
    draw = [torch.rand(3, generator=context.generator(item)) for context, item in ((whole, 2), (part, 0))]
    assert torch.equal(*draw)
    later = StepContext(6, 0, 0.0, "train", True, 1, [2, 3])
    assert not torch.equal(torch.rand(3, generator=later.generator(0)), draw[0])
