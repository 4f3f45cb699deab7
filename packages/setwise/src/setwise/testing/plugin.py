"""The conformance suite of a plugin as an installed distribution."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar

import pytest

from setwise.config import Options
from setwise.plugin import GROUP, CommandSpec
from setwise.recipes import RecipeEntry
from setwise.registry import KINDS, Entry, PluginStatus, default_registry
from setwise.testing.claims import expect

MAX_SUMMARY = 120
"""Characters of a summary, so that ``setwise list`` shows it in one line."""

HEAVY = ("jax", "matplotlib", "numpy", "pandas", "sklearn", "tensorflow", "torch", "torchmetrics", "torchvision")
"""What listing plugins and checking recipes must not import, because that alone takes longer than the command may."""

KEYWORDS = {
    "models": ("data",),
    "attentions": ("dim", "causal"),
    "datasets": ("seed",),
    "tasks": ("data",),
    "optimizers": ("params",),
    "schedules": ("num_steps", "lr"),
}
"""What the components of a kind are built with, besides their options."""

# Run in a process of its own, because this one has imported torch. What other plugins import is not held against one.
_PROBE = """
import importlib, json, sys
plugin, module, *heavy = sys.argv[1:]
found, known = {}, set()

def note(stage):
    found[stage] = sorted(set(heavy) & sys.modules.keys() - known)
    known.update(sys.modules)

importlib.import_module(module)
note("importing its hooks")
from setwise.recipes import open_recipe
from setwise.registry import KINDS, default_registry
registry = default_registry()
known.update(sys.modules)
for entry in [entry for kind in KINDS for entry in registry.entries(kind) if entry.plugin == plugin]:
    entry.spec.config.load()
note("importing its options")
for recipe in [recipe for recipe in registry.recipes() if recipe.plugin == plugin]:
    open_recipe(recipe.qualified, registry).load()
note("validating its recipes")
print(json.dumps(found))
"""


class PluginSuite:
    """What every installed plugin promises: it loads, is light, and all that it registers is there.

    Attributes:
        plugin: name of the plugin, the part before the slash in what it registers.

    Example:
        >>> class TestPlugin(PluginSuite):
        ...     plugin = "setwise"
        >>> TestPlugin().test_plugin_is_ok()
    """

    plugin: ClassVar[str]

    def status(self) -> PluginStatus:
        """Return what became of the plugin."""
        statuses = {status.name: status for status in default_registry().plugins}
        installed = ", ".join(statuses)
        expect(self.plugin in statuses, f'no plugin "{self.plugin}" is installed; installed are: {installed}')
        return statuses[self.plugin]

    def entries(self) -> Iterator[Entry]:
        """Yield all components that the plugin registers."""
        for kind in KINDS:
            yield from (entry for entry in default_registry().entries(kind) if entry.plugin == self.plugin)

    def commands(self) -> list[CommandSpec]:
        """Return all commands that the plugin registers."""
        return default_registry().commands().get(self.plugin, [])

    def recipes(self) -> list[RecipeEntry]:
        """Return all recipes that the plugin brings."""
        return [recipe for recipe in default_registry().recipes() if recipe.plugin == self.plugin]

    def test_plugin_is_ok(self) -> None:
        """``setwise plugins`` lists it as ok: it imports, its hooks are known and return valid records."""
        status = self.status()
        expect(status.status == "ok", f'the plugin "{self.plugin}" is {status.status}: {status.reason}')

    def test_plugin_registers_something(self) -> None:
        """At least one component, recipe or command is there."""
        hooks = ", ".join(self.status().hooks) or "none"
        something = [*self.entries(), *self.recipes(), *self.commands()]
        expect(bool(something), f'the plugin "{self.plugin}" registers nothing; its hooks are: {hooks}')

    def test_entry_point_is_unique_and_resolves(self) -> None:
        """One installed distribution has the entry point, and it names a module."""
        module = self._entry_point().load()
        kind = type(module).__name__
        expect(inspect.ismodule(module), f"the entry point must name a module of hooks, it names a {kind}")

    def test_hooks_options_and_recipes_import_nothing_heavy(self) -> None:
        """Neither needs torch, so that the command line answers at once."""
        command = [sys.executable, "-c", _PROBE, self.plugin, self._entry_point().module, *HEAVY]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        expect(result.returncode == 0, f"loading the plugin in a new process failed:\n{result.stderr}")
        for stage, imported in json.loads(result.stdout).items():
            advice = "import these where they are used, behind a Ref"
            expect(not imported, f"{stage} imports {', '.join(imported)}; {advice}")

    def test_references_import(self) -> None:
        """Everything that a record names can be imported."""
        references = {
            f"{attribute} of {entry.qualified}": getattr(entry.spec, attribute)
            for entry in self.entries()
            for attribute in ("build", "config")
        }
        references |= {f"run of the command {command.name}": command.run for command in self.commands()}
        for what, reference in references.items():
            given = f'{what} references "{reference.target}"'
            try:
                loaded = reference.load()
            except ImportError as error:
                raise AssertionError(f"{given}, which cannot be imported: {error}") from error
            expect(callable(loaded), f"{given}, a {type(loaded).__name__}; it must be callable")

    def test_options_refuse_unknown_keys(self) -> None:
        """Options derive from :class:`setwise.config.Options`: unknown keys are errors, instances are frozen."""
        for entry in self.entries():
            config, whose = entry.spec.config.load(), f"the options of {entry.qualified}"
            derived = isinstance(config, type) and issubclass(config, Options)
            expect(derived, f"{whose} must derive from setwise.config.Options, {config!r} does not")
            for setting, value in (("extra", "forbid"), ("frozen", True)):
                given = config.model_config.get(setting)
                expect(given == value, f"{whose} must keep {setting}={value!r}, they have {given!r}")
            expect("name" not in config.model_fields, f'{whose} may have no field "name", which names the component')

    def test_builders_take_the_keywords_of_their_kind(self) -> None:
        """``build(options, *, …)`` can be called as core calls it."""
        for entry in self.entries():
            build, keywords = entry.spec.build.load(), KEYWORDS[entry.kind]
            called = f"build(options, {', '.join(f'{keyword}=…' for keyword in keywords)})"
            try:
                inspect.signature(build).bind(None, **dict.fromkeys(keywords))
            except TypeError as error:
                problem = f"core builds {entry.qualified} as {called}, which it does not take: {error}"
                raise AssertionError(problem) from error

    def test_optimizers_have_a_learning_rate(self) -> None:
        """The options of an optimizer have ``lr``, on which schedules act."""
        for entry in self.entries():
            if entry.kind == "optimizers":
                fields = ", ".join(entry.spec.config.load().model_fields)
                given = f'the options of {entry.qualified} must have a field "lr", they have: {fields or "none"}'
                expect("lr" in fields.split(", "), given)

    def test_summaries_are_one_line(self) -> None:
        """Every component and command has a summary of one line for ``setwise list``."""
        summaries = {f"the summary of {entry.qualified}": entry.spec.summary for entry in self.entries()}
        summaries |= {f"the summary of the command {command.name}": command.summary for command in self.commands()}
        for what, summary in summaries.items():
            one_line = len(summary.splitlines()) == 1 and summary == summary.strip() != ""
            expect(one_line, f"{what} must be one line, it is {summary!r}")
            length = len(summary)
            expect(length <= MAX_SUMMARY, f"{what} has {length} characters; at most {MAX_SUMMARY} fit a line")

    def test_folders_of_recipes_have_recipes(self) -> None:
        """A plugin that names a folder of recipes has some in it."""
        if "setwise_recipes" not in self.status().hooks:
            pytest.skip("the plugin brings no recipes")
        expect(bool(self.recipes()), "the folders of setwise_recipes hold no *.yaml; are they part of the package?")

    def _entry_point(self) -> EntryPoint:
        points = [point for point in entry_points(group=GROUP) if point.name == self.plugin]
        found = sorted(f"{point.dist.name} {point.dist.version}" for point in points if point.dist)
        expect(len(points) == 1, f'exactly one distribution must have the plugin "{self.plugin}", found {found}')
        return points[0]
