"""What the suites stand on, and tests of your own can: components by name, contexts of a step, and fixed seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter

from setwise.config import Component, Slot
from setwise.errors import ConfigError
from setwise.tasks.task import StepContext
from setwise.testing.claims import difference, expect, expect_equal

Section = str | Mapping[str, Any]
"""A part of a recipe: the name of a component, or a mapping of its ``name`` and options."""

_NUM_STEPS = 100


class AbstractComponentSuite:
    """What the suites of components share: which component they test.

    Attributes:
        kind: one of :data:`setwise.registry.KINDS`.
        name: name of the registered component.
        options: its options, as in a recipe.
    """

    kind: ClassVar[str]
    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    def component(self) -> Component:
        """Return the component under test, with its validated options.

        Raises:
            ConfigError: the suite does not say which.
        """
        return find_component(self.kind, self.section("name", {"name": self.name, **self.options}))

    def section(self, attribute: str, section: Section) -> Section:
        """Return a section of the suite.

        Raises:
            ConfigError: it does not name a component.
        """
        if not (section if isinstance(section, str) else section.get("name")):
            raise ConfigError(
                f"{type(self).__name__} does not say what to test with: set its attribute {attribute}, or override "
                "the method that builds it"
            )
        return section


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


class _Generator(NamedTuple):
    """One of the random generators that a whole process shares."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    seed: Callable[[int], Any]


_GENERATORS = {
    "Python (random)": _Generator(random.getstate, random.setstate, random.seed),
    "NumPy (numpy.random)": _Generator(np.random.get_state, np.random.set_state, np.random.seed),
    "torch": _Generator(torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed),
}
# Python's is left out: libraries that check types at run time draw from it, without effect on any result.
_UNTOUCHED = ("NumPy (numpy.random)", "torch")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and put them back at the end.

    Example:
        >>> with seeded(3):
        ...     first = torch.rand(())
        >>> with seeded(3):
        ...     bool(torch.rand(()) == first)
        True
    """
    saved = [(each, each.get()) for each in _GENERATORS.values()]
    for each in _GENERATORS.values():
        each.seed(seed)
    try:
        yield
    finally:
        for each, state in saved:
            each.set(state)


def expect_no_global_randomness(what: str, compute: Callable[[], Any]) -> None:
    """Fail if a result changes from call to call, with a generator that the whole process shares, or changes one.

    Args:
        what: who promises not to.
        compute: returns what :func:`~setwise.testing.claims.expect_equal` can compare.

    Raises:
        AssertionError: it does; the message says whose generator it is.

    Example:
        >>> expect_no_global_randomness("a dice", lambda: random.randrange(1, 10**9))
        Traceback (most recent call last):
        AssertionError: a dice must not depend on global randomness, it does on that of Python (random): ...
    """
    with seeded(0):
        before = {name: _GENERATORS[name].get() for name in _UNTOUCHED}
        first = compute()
        for name, state in before.items():
            untouched = difference(_GENERATORS[name].get(), state) is None
            expect(untouched, f"{what} must use no global randomness, it drew from or seeded that of {name}")
    with seeded(0):
        expect_equal(compute(), first, f"{what} must give one result, two calls differ")
    for name, generator in _GENERATORS.items():
        with seeded(0):
            generator.seed(1)
            broken = f"{what} must not depend on global randomness, it does on that of {name}"
            expect_equal(compute(), first, broken)
