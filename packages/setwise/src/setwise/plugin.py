"""What a plugin needs to register itself: hook specifications, the records they return, and lazy references.

A plugin is a distribution with one entry point in the group ``setwise.plugins.v1`` that names a light module of
functions marked with :data:`hookimpl`. Each takes no arguments and returns records; a record names what it builds
with a :class:`Ref`, which imports only when it is used. This module and everything it imports is free of torch.

Example:
    >>> from setwise.plugin import ModelSpec, Ref, hookimpl
    >>> @hookimpl
    ... def setwise_models():
    ...     yield ModelSpec("mine", Ref("my_package.model:build"), Ref("my_package.config:MineConfig"), "My model")
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

GROUP = "setwise.plugins.v1"
hookspec = pluggy.HookspecMarker("setwise")
hookimpl = pluggy.HookimplMarker("setwise")


@dataclass(frozen=True)
class Ref:
    """A reference ``"package.module:name"`` that is imported when :meth:`load` is called, not before."""

    target: str

    def __post_init__(self) -> None:
        module, separator, name = self.target.partition(":")
        if not (module and separator and name):
            raise ValueError(f'Ref("{self.target}") must have the form "package.module:name"')

    def load(self) -> Any:
        """Import the module and return the named object.

        Raises:
            ImportError: the module cannot be imported, or has no such name.
        """
        module, _, name = self.target.partition(":")
        loaded = importlib.import_module(module)
        try:
            return getattr(loaded, name)
        except AttributeError:
            raise ImportError(f'module "{module}" has no "{name}" (from Ref("{self.target}"))') from None


@dataclass(frozen=True)
class ComponentSpec:
    """A named, configurable component: what all records but recipes and commands have in common.

    Attributes:
        name: bare name, unique within the plugin and kind; users write ``<plugin>/<name>``.
        build: reference to a callable ``build(options, *, ...)``; the keywords depend on the kind, see the subclasses.
        config: reference to a pydantic model with ``extra="forbid"`` in a torch-free module: the options it takes.
        summary: one line for ``setwise list``.
    """

    name: str
    build: Ref
    config: Ref
    summary: str


@dataclass(frozen=True)
class ModelSpec(ComponentSpec):
    """A model. ``build(options, *, data: DataSpec) -> nn.Module``."""


@dataclass(frozen=True)
class AttentionSpec(ComponentSpec):
    """A token mixer. ``build(options, *, dim: int, causal: bool) -> AbstractAttention``.

    ``invariances`` lists what it can claim in some configuration: "permutation", "padding", "causal", "translation".
    """

    invariances: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DatasetSpec(ComponentSpec):
    """A dataset. ``build(options, *, seed: int) -> AbstractDataModule``.

    Attributes:
        licence: licence of the data, as its source states it.
        size: download size in bytes (0 when nothing is downloaded).
        offline: whether it works on a machine that has never had a network.
    """

    licence: str = "unknown"
    size: int = 0
    offline: bool = False


@dataclass(frozen=True)
class TaskSpec(ComponentSpec):
    """A task (loss and metrics). ``build(options, *, data: DataSpec) -> AbstractTask``."""


@dataclass(frozen=True)
class OptimizerSpec(ComponentSpec):
    """An optimizer. ``build(options, *, params: list[dict]) -> torch.optim.Optimizer``; its options have ``lr``."""


@dataclass(frozen=True)
class ScheduleSpec(ComponentSpec):
    """A learning-rate schedule. ``build(options, *, num_steps: int, lr: float) -> Callable[[int], float]``.

    The callable maps the number of finished optimizer steps to the learning rate of the next one.
    """


@dataclass(frozen=True)
class RecipeSource:
    """A folder of recipes (``*.yaml``) in a package's data: ``RecipeSource("my_package", "recipes")``."""

    package: str
    folder: str = "recipes"


@dataclass(frozen=True)
class CommandSpec:
    """A command ``setwise <plugin> <name>``. ``run`` references a function with typed parameters, for cyclopts."""

    name: str
    run: Ref
    summary: str


class HookSpecs:
    """The hooks a plugin may implement, all optional, all without arguments."""

    @hookspec
    def setwise_models(self) -> Iterable[ModelSpec]:
        """Models, selected by ``model.name``."""
        return ()

    @hookspec
    def setwise_attentions(self) -> Iterable[AttentionSpec]:
        """Attention layers, selected by ``model.attention.name`` in any model that takes one."""
        return ()

    @hookspec
    def setwise_datasets(self) -> Iterable[DatasetSpec]:
        """Datasets, selected by ``data.name``."""
        return ()

    @hookspec
    def setwise_tasks(self) -> Iterable[TaskSpec]:
        """Tasks, selected by ``task.name``."""
        return ()

    @hookspec
    def setwise_optimizers(self) -> Iterable[OptimizerSpec]:
        """Optimizers, selected by ``optimizer.name``."""
        return ()

    @hookspec
    def setwise_schedules(self) -> Iterable[ScheduleSpec]:
        """Learning-rate schedules, selected by ``schedule.name``."""
        return ()

    @hookspec
    def setwise_recipes(self) -> Iterable[RecipeSource]:
        """Folders of recipes, run by ``setwise train <plugin>/<recipe>``."""
        return ()

    @hookspec
    def setwise_commands(self) -> Iterable[CommandSpec]:
        """Commands, run by ``setwise <plugin> <command>``."""
        return ()
