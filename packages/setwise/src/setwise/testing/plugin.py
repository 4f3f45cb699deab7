"""The conformance suite of a plugin as an installed distribution."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import pytest

from setwise.config import Options
from setwise.plugin import GROUP, ComponentSpec, Ref
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

# Run in a process of its own: this one has imported torch already. Options are imported and recipes validated.
_PROBE = """
import json, sys
from setwise.recipes import open_recipe
from setwise.registry import KINDS, default_registry

def heavy():
    return sorted(set(sys.argv[2:]) & sys.modules.keys())

registry, found = default_registry(), {}
found["listing the plugins"] = heavy()
for kind in KINDS:
    for entry in registry.entries(kind):
        if entry.plugin == sys.argv[1]:
            entry.spec.config.load()
found["importing its options"] = heavy()
for recipe in registry.recipes():
    if recipe.plugin == sys.argv[1]:
        open_recipe(recipe.qualified, registry).load()
found["validating its recipes"] = heavy()
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

    def test_plugin_is_ok(self) -> None:
        """``setwise plugins`` lists it as ok: it imports, its hooks are known and return valid records."""
        status = self.status()
        expect(status.status == "ok", f'the plugin "{self.plugin}" is {status.status}: {status.reason}')

    def test_plugin_registers_something(self) -> None:
        """At least one component, recipe or command is there."""
        hooks = self.status().hooks
        recipes = [recipe for recipe in default_registry().recipes() if recipe.plugin == self.plugin]
        something = [*self.entries(), *recipes, *default_registry().commands().get(self.plugin, ())]
        expect(
            bool(something),
            f'the plugin "{self.plugin}" registers nothing; its hooks are: {", ".join(hooks) or "none"}',
        )

    def test_entry_point_is_unique_and_resolves(self) -> None:
        """One installed distribution has the entry point, and it names a module."""
        points = [point for point in entry_points(group=GROUP) if point.name == self.plugin]
        found = sorted(_owner(point) for point in points)
        expect(len(points) == 1, f'exactly one distribution must have the plugin "{self.plugin}", found {found}')
        module = points[0].load()
        is_module = inspect.ismodule(module)
        expect(
            is_module,
            f'the entry point "{points[0].value}" must name a module of hooks, it names a {type(module).__name__}',
        )

    def test_listing_and_checking_recipes_imports_nothing_heavy(self) -> None:
        """Discovery, options and recipes need no torch, so that the command line answers at once."""
        command = [sys.executable, "-c", _PROBE, self.plugin, *HEAVY]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        expect(result.returncode == 0, f"listing the plugins in a new process failed:\n{result.stderr}")
        for when, imported in json.loads(result.stdout).items():
            expect(
                not imported, f"{when} imports {', '.join(imported)}; import these where they are used, behind a Ref"
            )

    def test_references_import(self) -> None:
        """Everything that a record names can be imported."""
        for what, reference in self._references():
            try:
                loaded = reference.load()
            except ImportError as error:
                raise AssertionError(
                    f'{what} references "{reference.target}", which cannot be imported: {error}'
                ) from error
            expect(
                callable(loaded),
                f'{what} references "{reference.target}", a {type(loaded).__name__}; it must be callable',
            )

    def test_options_refuse_unknown_keys(self) -> None:
        """Options derive from :class:`setwise.config.Options`: unknown keys are errors, instances are frozen."""
        for entry in self.entries():
            config = entry.spec.config.load()
            derived = isinstance(config, type) and issubclass(config, Options)
            expect(
                derived,
                f"the options of {entry.qualified} must derive from setwise.config.Options, {config!r} does not",
            )
            for setting, value in (("extra", "forbid"), ("frozen", True)):
                given = config.model_config.get(setting)
                expect(
                    given == value,
                    f"the options of {entry.qualified} must keep {setting}={value!r}, they have {given!r}",
                )
            expect("name" not in config.model_fields, f'the options of {entry.qualified} may have no field "name"')

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
                fields = entry.spec.config.load().model_fields
                expect(
                    "lr" in fields,
                    f'the options of {entry.qualified} must have a field "lr", they have: {", ".join(fields)}',
                )

    def test_names_are_found(self) -> None:
        """Every component is found under its full name."""
        for entry in self.entries():
            found = default_registry().get(entry.kind, entry.qualified)
            expect(found == entry, f"{entry.qualified} stands for something else in the registry")

    def test_summaries_are_one_line(self) -> None:
        """Every component and command has a summary of one line for ``setwise list``."""
        summaries = {entry.qualified: entry.spec.summary for entry in self.entries()}
        commands = default_registry().commands().get(self.plugin, [])
        summaries |= {f"the command {command.name}": command.summary for command in commands}
        for what, summary in summaries.items():
            lines = summary.splitlines()
            expect(
                len(lines) == 1 and summary == summary.strip() != "",
                f"the summary of {what} must be one line, it is {summary!r}",
            )
            expect(
                len(summary) <= MAX_SUMMARY,
                f"the summary of {what} has {len(summary)} characters; at most {MAX_SUMMARY} fit",
            )

    def test_folders_of_recipes_have_recipes(self) -> None:
        """A plugin that names a folder of recipes has some in it."""
        if "setwise_recipes" not in self.status().hooks:
            pytest.skip("the plugin brings no recipes")
        recipes = [recipe.name for recipe in default_registry().recipes() if recipe.plugin == self.plugin]
        expect(
            bool(recipes), "the folders that setwise_recipes names hold no *.yaml; is the folder part of the package?"
        )

    def _references(self) -> Iterator[tuple[str, Ref]]:
        for entry in self.entries():
            spec: ComponentSpec = entry.spec
            yield from (
                (f"{attribute} of {entry.qualified}", getattr(spec, attribute)) for attribute in ("build", "config")
            )
        for command in default_registry().commands().get(self.plugin, []):
            yield f"run of the command {command.name}", command.run


def _owner(point: EntryPoint) -> Any:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
