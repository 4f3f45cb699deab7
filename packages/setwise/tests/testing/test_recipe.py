"""The suite of recipes passes sound ones, and each of its tests fails on one fault, naming it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, NamedTuple

import pytest

from setwise.testing import RecipeSuite
from setwise.train.runs import find_runs

HOOKS = """
from setwise.plugin import DatasetSpec, OptimizerSpec, RecipeSource, Ref, hookimpl

@hookimpl
def setwise_datasets():
    table = Ref("mine.parts:build_table"), Ref("mine.config:TableOptions")
    yield DatasetSpec("table", *table, "Numbers", offline=True)
    yield DatasetSpec("remote", *table, "Numbers from elsewhere")

@hookimpl
def setwise_optimizers():
    yield OptimizerSpec("plain", Ref("mine.parts:Plain"), Ref("mine.config:PlainOptions"), "Steps")

@hookimpl
def setwise_recipes():
    yield RecipeSource("mine")
"""
CONFIG = """
from setwise.config import Options

class TableOptions(Options):
    pass

class PlainOptions(Options):
    lr: float = 0.1
"""
PARTS = """
import numpy as np
import pandas as pd
import torch
from setwise.data.tabular import TableData

def build_table(options, *, seed):
    values = np.random.default_rng(0).standard_normal((31, 3))
    return TableData.from_frame(pd.DataFrame(values, columns=["a", "b", "c"]), seed=seed, target="c")

class Plain(torch.optim.SGD):
    def __init__(self, options, *, params):
        super().__init__(params, lr=options.lr)
        self.calls = 0

    def step(self, closure=None):
        self.calls += 1
        return super().step(closure)
"""
RECIPE = """# Numbers
model: {name: setwise/encoder, dim: 8, num_layers: 1, attention: setwise/mha}
data: mine/table
task: setwise/regression
optimizer: {name: mine/plain}
trainer: {max_epochs: 70, batch_size: 7, num_workers: 2, precision: bf16-mixed, patience: 3}
"""
SOUND = {
    "mine/__init__.py": "",
    "mine/plugin.py": HOOKS,
    "mine/config.py": CONFIG,
    "mine/parts.py": PARTS,
    "mine/recipes/numbers.yaml": RECIPE,
    "mine/recipes/remote.yaml": RECIPE.replace("mine/table", "mine/remote"),
}


class Mine(RecipeSuite):
    plugin = "mine"


@pytest.mark.parametrize("test", sorted(name for name in dir(RecipeSuite) if name.startswith("test_recipe_")))
def test_sound_recipe_passes(test: str, install: Callable[..., Path], run_suite_test: Callable[..., None]) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")

    run_suite_test(Mine(), test, recipe="numbers")


def test_sound_recipe_resumes(
    tmp_path: Path, install: Callable[..., Path], run_suite_test: Callable[..., None]
) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")
    Mine().test_plugin_has_the_recipes()

    run_suite_test(Mine(), "test_interrupted_recipe_resumes_to_the_same_bits", recipe="numbers")

    [interrupted] = find_runs(tmp_path / "interrupted")
    assert [session["step"] for session in interrupted.info()["sessions"]] == [0, 1]


def test_data_that_must_be_downloaded_is_left_alone(
    install: Callable[..., Path], run_suite_test: Callable[..., None]
) -> None:
    class MineAsked(Mine):
        overrides: ClassVar = {"remote": []}

    install("mine-setwise", "mine", SOUND, target="mine.plugin")
    test = "test_interrupted_recipe_resumes_to_the_same_bits"

    with pytest.raises(pytest.skip.Exception, match="mine/remote has to be downloaded"):
        run_suite_test(Mine(), test, recipe="remote")
    run_suite_test(MineAsked(), test, recipe="remote")


class Fault(NamedTuple):
    """A change to one file of the sound plugin, and what a test of the suite has to say of it."""

    file: str
    old: str
    new: str
    words: str


YAML, CODE = "mine/recipes/numbers.yaml", "mine/parts.py"
FAULTS = {
    "test_recipe_is_valid": [
        Fault(YAML, "batch_size", "batchsize", 'recipe numbers is not valid: ... did you mean "batch_size"?'),
    ],
    "test_recipe_says_what_it_is_for": [
        Fault(YAML, "# Numbers", "", "recipe numbers has no summary; begin it with a comment line"),
        Fault(YAML, "Numbers", "Numbers " * 20, "the summary of recipe numbers has 159 characters; at most 120"),
    ],
    "test_recipe_names_components_in_full": [
        Fault(
            YAML, "setwise/regression", "regression", 'recipe numbers names task="regression"; write the name in full'
        ),
        Fault(YAML, "setwise/mha", "mha", 'recipe numbers names model.attention="mha"; write the name in full'),
        Fault(YAML, "mine/plain", "plain", 'recipe numbers names optimizer="plain"; write the name in full'),
    ],
    "test_interrupted_recipe_resumes_to_the_same_bits": [
        Fault(
            CODE,
            "return super().step",
            "self.param_groups[0]['lr'] /= self.calls; return super().step",
            "does not reach the bits of an undisturbed run: weights",
        ),
        Fault(
            CODE,
            "return super().step",
            "self.param_groups[0]['calls'] = self.calls; return super().step",
            "does not reach the bits of an undisturbed run: the optimizer's state",
        ),
        Fault(
            CODE,
            "return TableData",
            "values[0, 0] = np.random.default_rng().random(); return TableData",
            "recipe numbers cannot be trained, interrupted and resumed: the data of ... has changed",
        ),
    ],
}


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        pytest.param(test, fault, id=f"{number}-{test}")
        for test, faults in FAULTS.items()
        for number, fault in enumerate(faults)
    ],
)
def test_fault_is_found_and_named(
    test: str, fault: Fault, install: Callable[..., Path], expect_bite: Callable[..., None]
) -> None:
    files = {**SOUND, fault.file: SOUND[fault.file].replace(fault.old, fault.new)}
    install("mine-setwise", "mine", files, target="mine.plugin")

    expect_bite(Mine(), test, fault.words, recipe="numbers")


def test_plugin_without_recipes_is_found(expect_bite: Callable[..., None]) -> None:
    expect_bite(Mine(), "test_plugin_has_the_recipes", "the plugin mine has no recipes")


def test_overrides_of_a_recipe_that_is_not_there_are_found(
    install: Callable[..., Path], expect_bite: Callable[..., None]
) -> None:
    class MineMisspelt(Mine):
        overrides: ClassVar = {"nubmers": ["seed=1"]}

    install("mine-setwise", "mine", SOUND, target="mine.plugin")

    words = "overrides names ['nubmers'], the recipes are ['numbers', 'remote']"
    expect_bite(MineMisspelt(), "test_plugin_has_the_recipes", words)


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    assert FAULTS.keys() | {"test_plugin_has_the_recipes"} == tests_of(RecipeSuite)


def test_pytest_runs_each_test_once_per_recipe(install: Callable[..., Path]) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")
    asked = {}
    for fixtures in (["recipe", "tmp_path"], ["tmp_path"]):
        metafunc = SimpleNamespace(fixturenames=fixtures, parametrize=asked.__setitem__)
        Mine().pytest_generate_tests(metafunc)

    assert asked == {"recipe": ["numbers", "remote"]}
