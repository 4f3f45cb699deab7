"""Classification: cross-entropy over one categorical target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from setwise.data.spec import Categorical, DataSpec
from setwise.errors import ConfigError
from setwise.options import ClassificationOptions
from setwise.tasks.supervised import is_table, table_inputs, targets_of_kind
from setwise.tasks.task import AbstractTask, StepContext, StepOutput

if TYPE_CHECKING:
    from torchmetrics import Metric


@final
class Classification(AbstractTask):
    """Cross-entropy in nats, a mean over items; metrics accuracy and, for two classes, the area under the ROC curve.

    The model is called with the inputs of the batch as keywords (``image=``; ``values=, codes=, missing=`` for a
    table; ...) and returns logits (batch, categories).

    Args:
        data: has exactly one categorical target.
        label_smoothing: share of the target distribution that is spread over all categories (training only).

    Raises:
        ConfigError: the data has no, or another, target; or only one category.

    Example:
        >>> from setwise.data.spec import Categorical, Continuous
        >>> spec = DataSpec((Continuous("size"),), (Categorical("kind", ("cat", "dog")),))
        >>> sorted(Classification(spec).metrics("val"))
        ['accuracy', 'auroc']
    """

    def __init__(self, data: DataSpec, *, label_smoothing: float = 0.0) -> None:
        target, *others = targets_of_kind(data, Categorical, "classification")
        if others:
            names = ", ".join(field.name for field in data.targets)
            raise ConfigError(f"classification predicts one target; the data has: {names}. Choose one")
        if target.num_categories < 2:
            raise ConfigError(
                f'target "{target.name}" has the only category "{target.categories[0]}"; '
                "classification needs at least 2"
            )
        self.data, self.target = data, target
        self.label_smoothing = label_smoothing

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        """Return the summed cross-entropy of the items and their number."""
        inputs, labels = self._take_apart(batch)
        logits = model(**inputs)
        smoothing = self.label_smoothing if ctx.training else 0.0
        loss = F.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=smoothing)
        metrics: dict[str, tuple[Any, ...]] = {}
        if not ctx.training:
            probabilities = logits.float().softmax(-1)
            metrics["accuracy"] = (probabilities, labels)
            if self.target.num_categories == 2:
                metrics["auroc"] = (probabilities[:, 1], labels)
        return StepOutput(loss, len(labels), metrics)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        """Return accuracy, and the area under the ROC curve of the second category when there are two."""
        from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

        num_categories = self.target.num_categories
        metrics: dict[str, Metric] = {"accuracy": MulticlassAccuracy(num_categories, average="micro")}
        if num_categories == 2:
            metrics["auroc"] = BinaryAUROC()
        return metrics

    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        """Return ``probability``: (batch, categories)."""
        inputs, _ = self._take_apart(batch)
        return {"probability": model(**inputs).float().softmax(-1)}

    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the likeliest label under ``predicted_<target>`` and a column of probabilities for each category."""
        probability = predictions["probability"]
        labels = [self.target.categories[index] for index in probability.argmax(-1).tolist()]
        columns = {
            f"probability_{category}": probability[:, index].tolist()
            for index, category in enumerate(self.target.categories)
        }
        return {f"predicted_{self.target.name}": labels, **columns}

    def _take_apart(
        self, batch: Mapping[str, Tensor]
    ) -> tuple[dict[str, Float[Tensor, "batch ..."]], Int[Tensor, " batch"]]:
        if is_table(batch):
            return table_inputs(batch, self.data), batch["codes"][:, -1]
        return {field.name: batch[field.name] for field in self.data.inputs}, batch[self.target.name]


def build(options: ClassificationOptions, *, data: DataSpec) -> Classification:
    """Build the task from its options."""
    return Classification(data, label_smoothing=options.label_smoothing)
