"""The NPT objective as a task: hide cells at random, predict them, and weigh the losses on labels and features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from setwise.data.spec import Categorical, Continuous, DataSpec
from setwise.errors import ConfigError
from setwise.tasks.task import AbstractTask, StepContext, StepOutput
from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.config import MaskedModellingOptions
from setwise_npt.masking import SPLIT_CODES, Masks, choose_cells, corrupt
from setwise_npt.objective import MaskedLoss, annealed_tradeoff, cell_losses, masked_loss, total_loss

if TYPE_CHECKING:
    from torchmetrics import Metric


class _Corrupted(NamedTuple):
    """A batch as the model gets to see it."""

    values: Float[Tensor, "sets rows columns"]
    codes: Int[Tensor, "sets rows columns"]
    present: Bool[Tensor, "sets rows"] | None
    masks: Masks


@final
class MaskedModelling(AbstractTask):
    """Predict hidden labels, and hidden features beside them, of sets of rows (Kossen et al., 2021, section 2.4).

    In training the loss of a set is the trade-off of :func:`~setwise_npt.objective.total_loss`, and a batch's loss is
    the mean over its sets. In evaluation the loss is that on labels alone, a mean over labels: cross-entropy in nats
    and squared error in standardised units. Metrics are accuracy and, for two categories, the area under the ROC
    curve of each categorical target; the root mean squared error of each numeric one, in units of the data; and the
    feature loss where features are hidden. With several targets a metric's name ends in ``/<target>``.

    Args:
        data: a table with at least one target; batches are of sets of its rows.
        options: see :class:`~setwise_npt.config.MaskedModellingOptions`.

    Raises:
        ConfigError: there is no target, or one has a single category.
        DataError: the data is not a table.

    Example:
        >>> from setwise.data.spec import Continuous
        >>> spec = DataSpec((Continuous("size"),), (Categorical("kind", ("cat", "dog")),))
        >>> sorted(MaskedModelling(spec, MaskedModellingOptions()).metrics("val"))
        ['accuracy', 'auroc']
    """

    def __init__(self, data: DataSpec, options: MaskedModellingOptions) -> None:
        if not data.targets:
            raise ConfigError("masked modelling predicts target columns; the data has none: set data.target")
        for field in data.targets:
            if isinstance(field, Categorical) and field.num_categories < 2:
                raise ConfigError(
                    f'target "{field.name}" has the only category "{field.categories[0]}"; give it at least 2'
                )
        self.options, self.columns = options, Columns.of(data)
        self.targets = tuple(field for field in data.targets if isinstance(field, Continuous | Categorical))

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        """Return the trade-off of both losses in training, the label loss in evaluation."""
        label_probability, feature_probability = self._probabilities(ctx.split)
        seen = self._corrupt(batch, ctx, label_probability, feature_probability)
        outputs = self._run(model, seen)
        losses = cell_losses(outputs, batch["values"], batch["codes"], self.columns)
        label = masked_loss(losses, seen.masks.label_loss)
        feature = masked_loss(losses, seen.masks.feature_loss)
        if not ctx.training:
            metrics = self._metric_updates(outputs, batch, seen.masks.label_loss, feature)
            return StepOutput(label.total.sum(), label.num_cells.sum(), metrics)
        tradeoff = self._tradeoff(ctx)
        scalars = {
            "label_loss": label.mean.mean().detach(),
            "feature_loss": feature.mean.mean().detach(),
            "tradeoff": torch.tensor(tradeoff),
        }
        return StepOutput(total_loss(label, feature, tradeoff).sum(), len(batch["values"]), scalars=scalars)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        """Return the metrics of every target, and the feature loss if any features are hidden in this split."""
        from torchmetrics.aggregation import MeanMetric
        from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy
        from torchmetrics.regression import MeanSquaredError

        metrics: dict[str, Metric] = {}
        for suffix, field, _ in self._targets():
            if isinstance(field, Categorical):
                metrics[f"accuracy{suffix}"] = MulticlassAccuracy(field.num_categories, average="micro")
                if field.num_categories == 2:
                    metrics[f"auroc{suffix}"] = BinaryAUROC()
            else:
                metrics[f"rmse{suffix}"] = MeanSquaredError(squared=False)
        if self._probabilities(split)[1] > 0:
            metrics["feature_loss"] = MeanMetric()
        return metrics

    def predict(self, model: nn.Module, batch: Any, ctx: StepContext) -> dict[str, Tensor]:
        """Return for each target the probabilities (rows, categories), or the standardised values (rows, 1).

        The rows are those of the split ``ctx.split``, in their order: new ones for ``"predict"``. None of their labels
        is shown to the model; labels of other rows are, as the options say for the mode.
        """
        label_probability = 1.0 if ctx.split == "train" else self._probabilities(ctx.split)[0]
        seen = self._corrupt(batch, ctx, label_probability, 0.0)
        outputs = self._run(model, seen)
        rows = batch["split"] == SPLIT_CODES[ctx.split]
        predictions = {}
        for _, field, index in self._targets():
            output = self.columns.column(outputs, index)[rows].float()
            predictions[field.name] = output.softmax(-1) if isinstance(field, Categorical) else output
        return predictions

    def decode(self, predictions: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return a column ``predicted_<target>`` of labels or values for each target, and one for each probability."""
        decoded: dict[str, Any] = {}
        for suffix, field, _ in self._targets():
            prediction = predictions[field.name]
            if isinstance(field, Categorical):
                decoded[f"predicted_{field.name}"] = [field.categories[i] for i in prediction.argmax(-1).tolist()]
                infix = f"{field.name}_" if suffix else ""
                for code, category in enumerate(field.categories):
                    decoded[f"probability_{infix}{category}"] = prediction[:, code].tolist()
            else:
                values = prediction[:, 0].double() * field.std + field.mean
                decoded[f"predicted_{field.name}"] = values.tolist()
        return decoded

    def _corrupt(
        self, batch: Mapping[str, Tensor], ctx: StepContext, label_probability: float, feature_probability: float
    ) -> _Corrupted:
        values, present = batch["values"], batch.get("present")
        if values.dim() != 3 or present is None:
            raise ConfigError("NPT learns from sets of rows, the data serves single rows; set data.set_size")
        sets, rows, columns = values.shape
        # Row after row, so that a set's noise does not depend on how many rows of padding its batch has given it.
        noise = torch.stack([torch.rand(rows, 2, columns, generator=ctx.generator(item)) for item in range(sets)])
        which, replacement = noise.to(values.device, non_blocking=True).unbind(2)
        masks = choose_cells(
            batch["missing"],
            batch["split"],
            present,
            self.columns.tensors(values.device).is_target,
            which,
            mode=ctx.split,
            label_probability=label_probability,
            feature_probability=feature_probability,
            mask_share=self.options.mask_share,
        )
        seen_values, seen_codes = corrupt(values, batch["codes"], masks, replacement, self.columns)
        # A set alone has no padding, and attention without a mask is faster.
        return _Corrupted(seen_values, seen_codes, present if sets > 1 else None, masks)

    def _run(self, model: nn.Module, seen: _Corrupted) -> ColumnOutputs:
        return model(seen.values, seen.codes, seen.masks.hidden, present=seen.present)

    def _probabilities(self, split: str) -> tuple[float, float]:
        mode = "test" if split == "predict" else split
        return getattr(self.options.label_mask, mode), getattr(self.options.feature_mask, mode)

    def _tradeoff(self, ctx: StepContext) -> float:
        return annealed_tradeoff(
            ctx.step,
            round(ctx.step / ctx.progress) if ctx.step else 1,
            initial=self.options.tradeoff,
            annealing=self.options.tradeoff_annealing,
            proportion=self.options.tradeoff_proportion,
        )

    def _targets(self) -> Iterator[tuple[str, Continuous | Categorical, int]]:
        """Yield the end of the metrics' names, the field and the column's index for each target."""
        for field, index in zip(self.targets, self.columns.targets, strict=True):
            yield (f"/{field.name}" if len(self.targets) > 1 else ""), field, index

    def _metric_updates(
        self, outputs: ColumnOutputs, batch: Mapping[str, Tensor], chosen: Tensor, feature: MaskedLoss
    ) -> dict[str, tuple[Any, ...]]:
        updates: dict[str, tuple[Any, ...]] = {}
        for suffix, field, index in self._targets():
            cells = chosen[..., index]
            if not cells.any():
                continue
            output = self.columns.column(outputs, index)[cells].float()
            if isinstance(field, Categorical):
                probabilities, truth = output.softmax(-1), batch["codes"][..., index][cells]
                updates[f"accuracy{suffix}"] = (probabilities, truth)
                if field.num_categories == 2:
                    updates[f"auroc{suffix}"] = (probabilities[:, 1], truth)
            else:
                updates[f"rmse{suffix}"] = (output[:, 0] * field.std, batch["values"][..., index][cells] * field.std)
        if feature.num_cells.sum() > 0:
            updates["feature_loss"] = (feature.total.sum() / feature.num_cells.sum(), feature.num_cells.sum())
        return updates


def build_masked_modelling(options: MaskedModellingOptions, *, data: DataSpec) -> MaskedModelling:
    """Build the task that a recipe names ``npt/masked-modelling``."""
    return MaskedModelling(data, options)
