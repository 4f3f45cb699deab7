"""The suite of plugins passes a sound one, and each of its tests fails on one with one fault, naming it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from setwise.testing import PluginSuite

HOOKS = """
from setwise.plugin import CommandSpec, OptimizerSpec, RecipeSource, Ref, TaskSpec, hookimpl

@hookimpl
def setwise_optimizers():
    yield OptimizerSpec("plain", Ref("mine.parts:build_plain"), Ref("mine.config:PlainOptions"), "Steps")

@hookimpl
def setwise_tasks():
    yield TaskSpec("guess", Ref("mine.parts:build_guess"), Ref("mine.config:GuessOptions"), "Guess")

@hookimpl
def setwise_recipes():
    yield RecipeSource("mine")

@hookimpl
def setwise_commands():
    yield CommandSpec("wave", Ref("mine.parts:wave"), "Wave")
"""
CONFIG = """
from setwise.config import Options

class PlainOptions(Options):
    lr: float = 0.1

class GuessOptions(Options):
    pass
"""
PARTS = """
import torch

def build_plain(options, *, params):
    return torch.optim.SGD(params, lr=options.lr)

def build_guess(options, *, data):
    return None

def wave():
    print("hello")
"""
RECIPE = """# Guess the digits
model: setwise/encoder
data: setwise/digits
task: mine/guess
optimizer: mine/plain
trainer: {max_steps: 2}
"""
SOUND = {
    "mine/__init__.py": "",
    "mine/plugin.py": HOOKS,
    "mine/config.py": CONFIG,
    "mine/parts.py": PARTS,
    "mine/recipes/digits.yaml": RECIPE,
}


class Mine(PluginSuite):
    plugin = "mine"


@pytest.mark.parametrize("test", sorted(name for name in dir(PluginSuite) if name.startswith("test_")))
def test_sound_plugin_passes(test: str, install: Callable[..., Path], run_suite_test: Callable[..., None]) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")

    run_suite_test(Mine(), test)


class Fault(NamedTuple):
    """A change to one file of the sound plugin, and what a test of the suite has to say of it."""

    file: str
    old: str
    new: str
    words: str


FAULTS = {
    "test_plugin_is_ok": [
        Fault("mine/plugin.py", "setwise_tasks", "setwise_task", 'the plugin "mine" is failed: there is no hook'),
        Fault("mine/plugin.py", '"guess"', '"Guess!"', "is failed: setwise_tasks: the name 'Guess!' (str) must match"),
        Fault(
            "mine/__init__.py", "", "1 / 0", 'the plugin "mine" is failed: cannot import mine.plugin: ZeroDivisionError'
        ),
    ],
    "test_plugin_registers_something": [
        Fault("mine/plugin.py", HOOKS, "", 'the plugin "mine" registers nothing; its hooks are: none'),
    ],
    "test_hooks_options_and_recipes_import_nothing_heavy": [
        Fault("mine/__init__.py", "", "import numpy", "importing its hooks imports numpy; import these where"),
        Fault("mine/config.py", CONFIG, f"import numpy{CONFIG}", "importing its options imports numpy; import these"),
        Fault(
            "mine/config.py",
            "    pass",
            "    def model_post_init(self, _): import numpy",
            "validating its recipes imports numpy",
        ),
        Fault("mine/recipes/digits.yaml", "task", "tsk", "loading the plugin in a new process failed: ... tsk"),
    ],
    "test_references_import": [
        Fault(
            "mine/plugin.py",
            "parts:build_plain",
            "parts:build_plane",
            'build of mine/plain references "mine.parts:build_plane", which',
        ),
        Fault(
            "mine/plugin.py",
            "mine.config:Guess",
            "mine.confg:Guess",
            'config of mine/guess references "mine.confg:GuessOptions", which',
        ),
        Fault(
            "mine/plugin.py",
            "parts:wave",
            "parts:torch",
            'run of the command wave references "mine.parts:torch", a module',
        ),
    ],
    "test_options_refuse_unknown_keys": [
        Fault(
            "mine/config.py",
            "from setwise.config import",
            "from pydantic import BaseModel as",
            "options of mine/guess must derive from setwise.config.Options",
        ),
        Fault(
            "mine/config.py",
            "    pass",
            "    model_config = {'extra': 'allow'}",
            "options of mine/guess must keep extra='forbid', they have 'allow'",
        ),
        Fault("mine/config.py", "    pass", "    name: str = ''", 'options of mine/guess may have no field "name"'),
    ],
    "test_builders_take_the_keywords_of_their_kind": [
        Fault(
            "mine/parts.py",
            "*, params",
            "*, model",
            "core builds mine/plain as build(options, params=…), which it does not take",
        ),
        Fault(
            "mine/parts.py",
            "*, data",
            "*, data, size",
            "core builds mine/guess as build(options, data=…), which it does not take",
        ),
    ],
    "test_optimizers_have_a_learning_rate": [
        Fault(
            "mine/config.py",
            "lr: float",
            "rate: float",
            'the options of mine/plain must have a field "lr", they have: rate',
        ),
    ],
    "test_summaries_are_one_line": [
        Fault(
            "mine/plugin.py", '"Steps"', '"One\\nTwo"', "the summary of mine/plain must be one line, it is 'One\\nTwo'"
        ),
        Fault("mine/plugin.py", '"Wave"', '""', "the summary of the command wave must be one line, it is ''"),
        Fault(
            "mine/plugin.py",
            '"Guess"',
            '"Guess " * 30 + "!"',
            "the summary of mine/guess has 181 characters; at most 120",
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
    changed = SOUND[fault.file].replace(fault.old, fault.new) if fault.old else fault.new
    install("mine-setwise", "mine", {**SOUND, fault.file: changed}, target="mine.plugin")

    expect_bite(Mine(), test, fault.words)


def test_plugin_that_is_not_installed_is_named(expect_bite: Callable[..., None]) -> None:
    expect_bite(Mine(), "test_plugin_is_ok", 'no plugin "mine" is installed; installed are: setwise')


def test_distributions_with_one_name_are_named(install: Callable[..., Path], expect_bite: Callable[..., None]) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")
    install("yours-setwise", "mine", {"yours.py": ""}, version="2.5")

    words = "exactly one distribution must have the plugin \"mine\", found ['mine-setwise 1.0', 'yours-setwise 2.5']"
    expect_bite(Mine(), "test_entry_point_is_unique_and_resolves", words)


def test_entry_point_must_name_a_module(install: Callable[..., Path], expect_bite: Callable[..., None]) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin:setwise_tasks")

    words = "the entry point must name a module of hooks, it names a function"
    expect_bite(Mine(), "test_entry_point_is_unique_and_resolves", words)


def test_folder_without_recipes_is_found(install: Callable[..., Path], expect_bite: Callable[..., None]) -> None:
    files = {file: text for file, text in SOUND.items() if not file.endswith(".yaml")}
    install("mine-setwise", "mine", {**files, "mine/recipes/README.md": ""}, target="mine.plugin")

    expect_bite(Mine(), "test_folders_of_recipes_have_recipes", "the folders of setwise_recipes hold no *.yaml")


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    alone = {"test_entry_point_is_unique_and_resolves", "test_folders_of_recipes_have_recipes"}

    assert FAULTS.keys() | alone == tests_of(PluginSuite)


def test_what_another_plugin_imports_is_not_held_against_one(
    install: Callable[..., Path], run_suite_test: Callable[..., None]
) -> None:
    install("mine-setwise", "mine", SOUND, target="mine.plugin")
    install("heavy", "heavy", {"heavy.py": "import numpy"})

    run_suite_test(Mine(), "test_hooks_options_and_recipes_import_nothing_heavy")
