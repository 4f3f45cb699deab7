"""What a test stands on: components by name, and the context of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter

from setwise.config import Component, Slot
from setwise.tasks.task import StepContext

Section = str | Mapping[str, Any]
"""A part of a recipe: the name of a component, or a mapping of its ``name`` and options."""

_NUM_STEPS = 100


def find_component(kind: str, section: Section) -> Component:
    """Return a registered component with its options.

    Args:
        kind: one of :data:`setwise.registry.KINDS`.
        section: its name, or its name and options, as in a recipe.

    Raises:
        ValidationError: there is no such component, or it has no such options (pydantic's).
    """
    return TypeAdapter(Annotated[Component, Slot(kind)]).validate_python(section)


def build_component(kind: str, section: Section, **keywords: Any) -> Any:
    """Build a registered component.

    Args:
        kind: one of :data:`setwise.registry.KINDS`.
        section: its name, or its name and options, as in a recipe.
        keywords: what components of the kind are built with.

    Raises:
        ValidationError: there is no such component, or it has no such options (pydantic's).

    Example:
        >>> data = build_component("datasets", {"name": "setwise/table", "sklearn": "iris"}, seed=0)
        >>> data.prepare()
        >>> data.splits
        ('train', 'val', 'test')
    """
    return find_component(kind, section).build(**keywords)


def step_context(positions: Sequence[int], *, split: str = "train", step: int = 0, seed: int = 0) -> StepContext:
    """Return the context that the Trainer would give a task.

    Args:
        positions: places of the batch's items in the global batch (``"train"``) or in the split.
        split: the split the items are of; ``"train"`` is for training.
        step: steps finished of a training of 100.
        seed: seed of the run.

    Example:
        >>> step_context(range(3), split="val").training
        False
    """
    training = split == "train"
    progress = step / _NUM_STEPS if training else 1.0
    return StepContext(step, 0, progress, split, training, seed, positions)
