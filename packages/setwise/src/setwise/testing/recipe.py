"""The conformance suite of a plugin's recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import BaseModel

from setwise.config import Component, RunConfig
from setwise.errors import SetwiseError
from setwise.plugin import DatasetSpec
from setwise.recipes import Recipe, open_recipe
from setwise.registry import default_registry
from setwise.testing.claims import expect, expect_equal
from setwise.testing.plugin import MAX_SUMMARY
from setwise.train.callbacks import AbstractCallback
from setwise.train.checkpoint import Checkpoint, CheckpointStore
from setwise.train.runs import find_runs
from setwise.train.session import RunResult, resume, train
from setwise.train.trainer import Trainer

_NUM_STEPS = 3
_BUDGET = (
    f"trainer.max_steps={_NUM_STEPS}",
    "trainer.max_epochs=null",
    "trainer.max_time=null",
    "trainer.patience=null",
    "trainer.eval_every=2",
    "trainer.checkpoint_every=1",
    "trainer.device=cpu",
    "trainer.precision=32",
    "trainer.compile=false",
    "trainer.num_workers=0",
    "trainer.trackers=[]",
)


class RecipeSuite:
    """What every recipe promises: it is valid, says what it is for, trains, and resumes exactly.

    Each recipe is trained for three steps on the CPU, once undisturbed and once interrupted and resumed. Make large
    ones small with ``overrides``; a recipe whose data must be downloaded is trained only where you list it there.

    Attributes:
        plugin: name of the plugin.
        overrides: by the bare name of a recipe, changes that make it small, such as ``["model.num_layers=2"]``.

    Example:
        >>> class TestRecipes(RecipeSuite):
        ...     plugin = "mine"
        ...     overrides = {"large": ["model.dim=8", "model.num_layers=1", "trainer.batch_size=4"]}
    """

    plugin: ClassVar[str]
    overrides: ClassVar[Mapping[str, Sequence[str]]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes a ``recipe`` once per recipe."""
        if "recipe" in metafunc.fixturenames:
            metafunc.parametrize("recipe", self.recipes())

    def recipes(self) -> list[str]:
        """Return the bare names of the plugin's recipes."""
        return [recipe.name for recipe in default_registry().recipes() if recipe.plugin == self.plugin]

    def test_plugin_has_the_recipes(self) -> None:
        """The plugin has recipes, and every recipe that ``overrides`` names is one of them."""
        names = self.recipes()
        expect(bool(names), f"the plugin {self.plugin} has no recipes; see PluginSuite if it should have")
        unknown = sorted(self.overrides.keys() - set(names))
        expect(not unknown, f"overrides names {unknown}, the recipes are {names}")

    def test_recipe_is_valid(self, recipe: str) -> None:
        """The recipe passes validation, and so does it with the changes that make it small."""
        try:
            self._load(recipe).load()
            self._small(recipe)
        except SetwiseError as error:
            raise AssertionError(f"recipe {recipe} is not valid: {error}") from error

    def test_recipe_says_what_it_is_for(self, recipe: str) -> None:
        """The first comment line is a summary for ``setwise list``."""
        summary = default_registry().recipe(f"{self.plugin}/{recipe}").summary
        expect(bool(summary), f'recipe {recipe} has no summary; begin it with a comment line, "# What it is for"')
        short = len(summary) <= MAX_SUMMARY
        expect(short, f"the summary of recipe {recipe} has {len(summary)} characters; at most {MAX_SUMMARY} fit a line")

    def test_recipe_names_components_in_full(self, recipe: str) -> None:
        """Names are ``<plugin>/<name>``: a bare one becomes ambiguous when another plugin takes it too."""
        loaded = self._load(recipe)
        for path, given in _names_given(loaded.load(), yaml.safe_load(loaded.text)):
            expect("/" in given, f'recipe {recipe} names {path}="{given}"; write the name in full, <plugin>/{given}')

    def test_interrupted_recipe_resumes_to_the_same_bits(self, recipe: str, tmp_path: Path) -> None:
        """Three steps without a break, and with a crash before the second is saved, end in the same checkpoint."""
        config = self._small(recipe)
        if _needs_download(config) and recipe not in self.overrides:
            pytest.skip(f"{config.data.name} has to be downloaded; train it by listing {recipe} in overrides")
        name = f"{self.plugin}/{recipe}"
        try:
            undisturbed = train(config, name=name, runs=tmp_path / "undisturbed")
            with pytest.raises(_SimulatedError):
                train(config, name=name, runs=tmp_path / "interrupted", callbacks=[_FailAfter(step=2)])
            [run] = find_runs(tmp_path / "interrupted")
            resumed = resume(run)
        except SetwiseError as error:
            raise AssertionError(f"recipe {recipe} cannot be trained, interrupted and resumed: {error}") from error
        expected, found = _newest(undisturbed), _newest(resumed)
        broken = f"recipe {recipe}, interrupted and resumed, does not reach the bits of an undisturbed run: "
        expect_equal(found.model, expected.model, broken + "weights")
        expect_equal(found.optimizer, expected.optimizer, broken + "the optimizer's state")
        expect_equal(resumed.final, undisturbed.final, broken + "final metrics")

    def _load(self, recipe: str) -> Recipe:
        return open_recipe(f"{self.plugin}/{recipe}", default_registry())

    def _small(self, recipe: str) -> RunConfig:
        return self._load(recipe).load([*self.overrides.get(recipe, ()), *_BUDGET])


class _SimulatedError(Exception):
    """Ends a training as an error of the machine would."""


class _FailAfter(AbstractCallback):
    """Raises when a step is done and not saved yet."""

    def __init__(self, *, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.step == self.step:
            raise _SimulatedError


def _newest(result: RunResult) -> Checkpoint:
    expect(result.finished, f"training ended for {result.reason}; it must take all {_NUM_STEPS} steps")
    checkpoint, _ = CheckpointStore(result.run.checkpoints_path).load_newest()
    expect(checkpoint.step == _NUM_STEPS, f"the last checkpoint is of step {checkpoint.step}, not of {_NUM_STEPS}")
    return checkpoint


def _needs_download(config: RunConfig) -> bool:
    return isinstance(config.data.spec, DatasetSpec) and not config.data.spec.offline


def _names_given(options: BaseModel, text: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and the name of every component that a text names, however deep in the options of others."""
    for field in type(options).model_fields:
        value = getattr(options, field)
        given = text.get(field) if isinstance(text, Mapping) else None
        place = f"{path}.{field}".lstrip(".")
        if isinstance(value, Component):
            name = given.get("name") if isinstance(given, Mapping) else given
            if isinstance(name, str):
                yield place, name
            value = value.options
        if isinstance(value, BaseModel):
            yield from _names_given(value, given, place)
