"""Look up what the installed plugins registered, by ``<plugin>/<name>`` or by bare name where that is unique."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from setwise.discovery import COMPONENTS, LoadedPlugin, PluginStatus, discover
from setwise.errors import UnknownNameError, suggest
from setwise.plugin import CommandSpec, ComponentSpec

if TYPE_CHECKING:
    from setwise.recipes import RecipeEntry

__all__ = ["KINDS", "Entry", "PluginStatus", "Registry", "default_registry", "load_registry"]

KINDS = tuple(COMPONENTS)
"""The kinds of components: "models", "attentions", ..."""

ENVIRONMENT_VARIABLE = "SETWISE_PLUGINS"

_FIRST_PARTY = ("npt", "posattn", "swarm", "dual-attention")
"""Plugins that are developed with setwise, so that a missing name can say what to install: ``setwise-<plugin>``."""

_Named = TypeVar("_Named")


@dataclass(frozen=True)
class Entry:
    """A registered component."""

    kind: str
    plugin: str
    name: str
    spec: ComponentSpec

    @property
    def qualified(self) -> str:
        """The name that is unique among all plugins, ``<plugin>/<name>``."""
        return f"{self.plugin}/{self.name}"


class Registry:
    """What a set of plugins offers.

    Args:
        plugins: the plugins as loaded by :func:`setwise.discovery.discover`.
    """

    def __init__(self, plugins: Iterable[LoadedPlugin]) -> None:
        self._loaded = tuple(plugins)
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        for plugin in self._loaded:
            for kind in KINDS:
                for spec in plugin.records.get(kind, ()):
                    entry = Entry(kind, plugin.status.name, spec.name, spec)
                    self._entries[kind][entry.qualified] = entry

    @property
    def plugins(self) -> list[PluginStatus]:
        """The status of every installed plugin, sound or not."""
        return [plugin.status for plugin in self._loaded]

    def entries(self, kind: str) -> list[Entry]:
        """Return all components of a kind, in the order in which their plugins list them."""
        return list(self._of(kind).values())

    def get(self, kind: str, name: str) -> Entry:
        """Return the component of a kind that a name stands for.

        Args:
            kind: one of :data:`KINDS`.
            name: ``<plugin>/<name>``, or a bare name that only one plugin has.

        Raises:
            UnknownNameError: nothing, or more than one thing, has that name. The message says what is near and, when
                a plugin is missing, broken or switched off, what to do about it.

        Example:
            >>> from setwise.registry import default_registry
            >>> default_registry().get("optimizers", "adamw").qualified
            'setwise/adamw'
        """
        return self._lookup(kind.removesuffix("s"), name, self._of(kind))

    def recipe(self, name: str) -> RecipeEntry:
        """Return the recipe that a name stands for, under the same rules as :meth:`get`.

        Raises:
            UnknownNameError: nothing, or more than one thing, has that name.
        """
        return self._lookup("recipe", name, {recipe.qualified: recipe for recipe in self.recipes()})

    def recipes(self) -> list[RecipeEntry]:
        """Return the recipes of all plugins."""
        from setwise.recipes import find_recipes

        return [
            recipe
            for plugin in self._loaded
            for source in plugin.records.get("recipes", ())
            for recipe in find_recipes(plugin.status.name, source)
        ]

    def commands(self) -> dict[str, list[CommandSpec]]:
        """Return the commands of each plugin that has any, by the name of the plugin."""
        return {
            plugin.status.name: list(commands)
            for plugin in self._loaded
            if (commands := plugin.records.get("commands", ()))
        }

    def _lookup(self, noun: str, name: str, table: Mapping[str, _Named]) -> _Named:
        if name in table:
            return table[name]
        matches = [qualified for qualified in table if qualified.rpartition("/")[2] == name]
        if len(matches) == 1:
            return table[matches[0]]
        if matches:
            raise UnknownNameError(f'the {noun} "{name}" is ambiguous; write {" or ".join(matches)}')
        raise UnknownNameError(f'unknown {noun} "{name}"{self._hint(noun, name, list(table))}')

    def _hint(self, noun: str, name: str, available: Collection[str]) -> str:
        """Say what the user can do about a name that is missing among those available."""
        plugin, _, bare = name.rpartition("/")
        wanted = plugin or name
        if wanted not in (status.name for status in self.plugins if status.status == "ok"):
            if broken := [_describe(status) for status in self.plugins if status.name == wanted]:
                return f": {'; '.join(broken)}"
            if wanted in _FIRST_PARTY:
                return f': the plugin "{wanted}" is not installed; run: pip install setwise-{wanted}'
        siblings = {each.rpartition("/")[2]: each for each in available if each.startswith(f"{plugin}/")}
        bare_names = {each.rpartition("/")[2] for each in available}
        if siblings:
            # Compared without the plugin's name, which two unlike names would have in common.
            near = suggest(name, siblings.values()) if suggest(bare, siblings) else ""
        else:
            near = suggest(name, available if plugin else bare_names) or suggest(bare, bare_names)
        choices = siblings.values() or sorted(available)
        known = f"; there is {', '.join(choices)}" if choices else f"; no {noun} is registered"
        absent = [status.name for status in self.plugins if status.status not in ("ok", "disabled")]
        return (near or known) + (f'; not loaded: {", ".join(absent)} (see "setwise plugins")' if absent else "")

    def _of(self, kind: str) -> dict[str, Entry]:
        if kind not in self._entries:
            raise UnknownNameError(f'unknown kind "{kind}"; the kinds are {", ".join(KINDS)}{suggest(kind, KINDS)}')
        return self._entries[kind]


def _describe(status: PluginStatus) -> str:
    if not status.distribution:
        return status.reason
    outcome = {
        "failed": "is installed but failed to load",
        "conflict": "is installed but was refused",
        "incompatible": "is installed but does not fit",
        "disabled": "is disabled",
    }[status.status]
    return f'the plugin "{status.name}" ({status.distribution} {status.version}) {outcome}: {status.reason}'


def load_registry(*, only: Collection[str] | None = None, disabled: bool = False) -> Registry:
    """Load the installed plugins.

    Args:
        only: names of the plugins to load besides core's own. When None, the environment variable
            ``SETWISE_PLUGINS=npt,swarm`` decides (empty: core only), and without it all are loaded.
        disabled: load core only, whatever ``only`` and the environment say.
    """
    if disabled:
        return Registry(discover((), because="--no-plugins"))
    if only is not None:
        return Registry(discover(only, because=f"only={','.join(only)}"))
    value = os.environ.get(ENVIRONMENT_VARIABLE)
    if value is None:
        return Registry(discover())
    names = [name for part in value.split(",") if (name := part.strip())]
    because = f"{ENVIRONMENT_VARIABLE}={value}" if names else f'--no-plugins or {ENVIRONMENT_VARIABLE}=""'
    return Registry(discover(names, because=because))


@functools.cache
def default_registry() -> Registry:
    """Return the registry of the installed plugins, loaded at the first call."""
    return load_registry()
