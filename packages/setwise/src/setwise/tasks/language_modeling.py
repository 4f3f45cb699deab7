"""Language modelling: predict each token from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import torch.nn.functional as F
from torch import nn

from setwise.data.spec import DataSpec, Tokens
from setwise.errors import ConfigError
from setwise.options import LanguageModelingOptions
from setwise.tasks.task import AbstractTask, StepContext, StepOutput

if TYPE_CHECKING:
    from torchmetrics import Metric


@final
class LanguageModeling(AbstractTask):
    """Cross-entropy of the next token in nats, a mean over tokens; metrics perplexity and accuracy.

    The model is called with ``tokens=`` (batch, length) and returns logits (batch, length, vocabulary).

    Args:
        data: its one input is :class:`~setwise.data.spec.Tokens`; windows hold one token more than its length.

    Raises:
        ConfigError: the data is not text.

    Example:
        >>> from setwise.data.spec import Tokens
        >>> sorted(LanguageModeling(DataSpec((Tokens("tokens", 256, 64),))).metrics("val"))
        ['accuracy', 'perplexity']
    """

    def __init__(self, data: DataSpec) -> None:
        if len(data.inputs) != 1 or not isinstance(data.inputs[0], Tokens):
            found = ", ".join(f"{field.name} ({type(field).__name__})" for field in data.inputs)
            raise ConfigError(f"language-modeling needs text, one field of Tokens; the data has: {found}")
        self.tokens = data.inputs[0]

    def step(self, model: nn.Module, batch: Any, ctx: StepContext) -> StepOutput:
        """Return the summed cross-entropy of the predicted tokens, and their number."""
        tokens = batch[self.tokens.name]
        logits, following = model(tokens=tokens[:, :-1]).float(), tokens[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="sum")
        metrics: dict[str, tuple[Any, ...]] = {}
        if not ctx.training:
            metrics["perplexity"] = (logits, following)
            metrics["accuracy"] = ((logits.argmax(-1) == following).float(),)
        return StepOutput(loss, following.numel(), metrics)

    def metrics(self, split: str) -> Mapping[str, Metric]:
        """Return the perplexity and the share of tokens predicted first."""
        from torchmetrics.aggregation import MeanMetric
        from torchmetrics.text import Perplexity

        return {"perplexity": Perplexity(), "accuracy": MeanMetric()}


def build(options: LanguageModelingOptions, *, data: DataSpec) -> LanguageModeling:
    """Build the task from its options."""
    return LanguageModeling(data)
