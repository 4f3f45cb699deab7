"""Find the installed plugins and load each on its own, so that a broken one costs a line of status and nothing else.

pluggy's stock loader stops at the first plugin that fails to import and silently drops the second of two
distributions that claim one name. Here every entry point is loaded, checked and called inside its own ``try``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, distributions
from types import ModuleType
from typing import Any, Literal

import pluggy

from setwise.errors import PluginError, suggest
from setwise.plugin import (
    GROUP,
    AttentionSpec,
    CommandSpec,
    ComponentSpec,
    DatasetSpec,
    HookSpecs,
    ModelSpec,
    OptimizerSpec,
    RecipeSource,
    Ref,
    ScheduleSpec,
    TaskSpec,
)

CORE = "setwise"
"""Name of core's own plugin and of its distribution; it is never disabled and nobody can take its name."""

COMPONENTS: Mapping[str, type[ComponentSpec]] = {
    "models": ModelSpec,
    "attentions": AttentionSpec,
    "datasets": DatasetSpec,
    "tasks": TaskSpec,
    "optimizers": OptimizerSpec,
    "schedules": ScheduleSpec,
}
"""Kinds of components, and the record that registers each."""

RECORDS: Mapping[str, type] = {**COMPONENTS, "recipes": RecipeSource, "commands": CommandSpec}
"""What each hook returns: the hook of ``RECORDS["models"]`` is ``setwise_models``."""

RESERVED_NAMES = frozenset(
    ("data", "doctor", "evaluate", "list", "local", "plugins", "predict", "report", "resume", "runs", "show", "train")
)
"""The commands of core, which would hide those of a plugin of that name, and what runs of a user's file go under."""

_GROUP_STEM = GROUP.rpartition("v")[0]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

State = Literal["ok", "failed", "conflict", "incompatible", "disabled"]


@dataclass(frozen=True)
class PluginStatus:
    """What became of one installed plugin.

    Attributes:
        name: name of the plugin, the part before the slash in ``npt/npt``.
        distribution: what to give to ``pip`` to upgrade or remove it; empty when nothing of that name is installed.
        version: version of the distribution.
        status: "ok", or why the plugin offers nothing.
        reason: one line for the user, empty when the status is "ok".
        hooks: names of the hooks it implements.
        error: the exception behind the reason, for those who ask for the traceback.
    """

    name: str
    distribution: str
    version: str
    status: State = "ok"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    error: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin's status and, by kind, the records its hooks returned (none unless the status is "ok")."""

    status: PluginStatus
    records: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """An entry point that claims to be a plugin, not imported yet."""

    name: str
    target: str
    group: str
    distribution: str
    version: str

    @property
    def owner(self) -> str:
        return f"{self.distribution} {self.version}"

    def refused(self, status: State, reason: str, error: BaseException | None = None) -> LoadedPlugin:
        return LoadedPlugin(PluginStatus(self.name, self.distribution, self.version, status, reason, error=error))


def discover(only: Collection[str] | None = None, *, because: str = "") -> list[LoadedPlugin]:
    """Find all installed plugins and load those that are wanted and sound.

    Args:
        only: names of the plugins to load besides core's own; all when None.
        because: what restricts the plugins to ``only``, for the reason of those left out, e.g. "SETWISE_PLUGINS=npt".

    Returns:
        One entry per entry point, core first, then by name.
    """
    candidates = sorted(set(find_candidates()), key=lambda each: (each.distribution != CORE, each.name, each.owner))
    supported = {replace(candidate, target="") for candidate in candidates if candidate.group == GROUP}
    plugins: list[LoadedPlugin] = []
    for candidate in candidates:
        core = candidate.distribution == CORE
        if not core and only is not None and candidate.name not in only:
            plugins.append(candidate.refused("disabled", f"left out by {because}"))
        elif candidate.group != GROUP:
            if replace(candidate, group=GROUP, target="") not in supported:
                plugins.append(candidate.refused("incompatible", _incompatible_reason(candidate)))
        elif not core and (rivals := _rivals(candidate, candidates)):
            plugins.append(candidate.refused("conflict", _conflict_reason(candidate, rivals)))
        else:
            plugins.append(load_plugin(candidate))
    return plugins + _not_installed(only or (), {candidate.name for candidate in candidates}, because)


def find_candidates() -> Iterator[Candidate]:
    """Yield the entry points of all generations of the plugin API, without importing anything.

    A distribution that is on ``sys.path`` twice counts once: Python imports the first, so the first counts. Only
    distributions that mention the group are parsed, so a damaged one of somebody else's does no harm.
    """
    seen: set[str] = set()
    for distribution in distributions():
        if _GROUP_STEM not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name, version = _identity(distribution)
        if name not in seen:
            seen.add(name)
            for entry in distribution.entry_points:
                if entry.group.startswith(_GROUP_STEM):
                    yield Candidate(entry.name, entry.value, entry.group, name, version)


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Return the normalised name and the version of a distribution, also of one whose metadata are damaged."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    name, version = (re.search(rf"^{key}:\s*(\S+)", text, re.MULTILINE) for key in ("Name", "Version"))
    normalised = re.sub(r"[-_.]+", "-", name[1]).lower() if name else "(a distribution without METADATA)"
    return normalised, version[1] if version else "(unknown version)"


def _rivals(candidate: Candidate, candidates: Iterable[Candidate]) -> list[Candidate]:
    return [each for each in candidates if (each.group, each.name) == (GROUP, candidate.name) and each != candidate]


def _conflict_reason(candidate: Candidate, rivals: Sequence[Candidate]) -> str:
    if candidate.name == CORE:
        return f'the name "{CORE}" belongs to setwise itself; uninstall {candidate.distribution}'
    others = " and ".join(rival.owner for rival in rivals)
    return f'the name "{candidate.name}" is claimed by {candidate.owner} and {others}; uninstall all but one'


def _incompatible_reason(candidate: Candidate) -> str:
    theirs, ours = (group.removeprefix(_GROUP_STEM) for group in (candidate.group, GROUP))
    remedy = f"install a version of {candidate.distribution} that has {ours}"
    if theirs.removeprefix("v").isdigit() and int(theirs[1:]) > int(ours[1:]):
        remedy = f"upgrade setwise, or {remedy}"
    return f"{candidate.owner} is written for plugin API {theirs} and this setwise has {ours}; {remedy}"


def _not_installed(only: Collection[str], installed: Collection[str], because: str) -> list[LoadedPlugin]:
    reason = "{} names a plugin that is not installed{}"
    return [
        LoadedPlugin(PluginStatus(name, "", "", "failed", reason.format(because, suggest(name, installed))))
        for name in sorted(set(only) - set(installed))
    ]


def load_plugin(candidate: Candidate) -> LoadedPlugin:
    """Import one plugin, check its hooks and collect their records; whatever goes wrong becomes its status."""
    status = PluginStatus(candidate.name, candidate.distribution, candidate.version)
    try:
        _check_name("plugin", candidate.name)
        if candidate.name in RESERVED_NAMES:
            raise PluginError(f'"{candidate.name}" is a word of the command line; the plugin needs another name')
        hooks = _find_hooks(_import(candidate))
        records = {hook.removeprefix("setwise_"): _call(hook, function) for hook, function in hooks.items()}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may also call sys.exit, or raise what does not derive from Exception
        return candidate.refused("failed", _one_line(error), error)
    return LoadedPlugin(replace(status, hooks=tuple(hooks)), records)


def _import(candidate: Candidate) -> ModuleType:
    if ":" in candidate.target:
        raise PluginError(f'the entry point is "{candidate.target}", but it must name a module of hooks: drop the ":"')
    try:
        return importlib.import_module(candidate.target)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"cannot import {candidate.target}: {_one_line(error)}") from error


def _find_hooks(module: ModuleType) -> dict[str, Any]:
    """Return the hook functions of a plugin by the name of the hook.

    Raises:
        PluginError: a function is marked or named like a hook without being one.
    """
    manager = pluggy.PluginManager("setwise")
    manager.add_hookspecs(HookSpecs)
    allowed = [f"setwise_{kind}" for kind in RECORDS]
    hooks: dict[str, Any] = {}
    # vars(), not dir(): a module with a lazy __getattr__ must not be made to import everything it could.
    for name, value in list(vars(module).items()):
        options = manager.parse_hookimpl_opts(module, name)
        if options is None:
            if name.startswith("setwise_") and inspect.isfunction(value):
                raise PluginError(f"{name} is named like a hook but is not marked with @hookimpl")
            continue
        hook = options.get("specname") or name
        if hook not in allowed:
            raise PluginError(f"there is no hook {hook}{suggest(hook, allowed)}")
        if hook in hooks:
            raise PluginError(f"{hook} is implemented twice")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"{hook} is marked as a wrapper; a hook of setwise is a plain function")
        if parameters := list(inspect.signature(value).parameters):
            raise PluginError(f"{hook}({', '.join(parameters)}) has parameters; the hooks of setwise take none")
        hooks[hook] = value
    return hooks


def _call(hook: str, function: Any) -> tuple[Any, ...]:
    kind = hook.removeprefix("setwise_")
    record = RECORDS[kind].__name__
    try:
        result = function()
        records = None if result is None or isinstance(result, RECORDS[kind]) else tuple(result)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{hook} raised {_one_line(error)}") from error
    if records is None:
        raise PluginError(f"{hook} returned {_shown(result)}; it must return an iterable of {record}")
    for each in records:
        if not isinstance(each, RECORDS[kind]):
            raise PluginError(f"{hook} returned an item {_shown(each)}; all must be {record}")
        _check_record(hook, each)
    names = [each.name for each in records if not isinstance(each, RecipeSource)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PluginError(f"{hook} returned {' and '.join(repeated)} more than once")
    return records


def _check_record(hook: str, record: Any) -> None:
    if isinstance(record, RecipeSource):
        from importlib.resources import files  # costs milliseconds that only plugins with recipes need

        if not files(record.package).joinpath(record.folder).is_dir():
            raise PluginError(f'{hook}: the package "{record.package}" has no folder "{record.folder}"')
        return
    _check_name(hook, record.name)
    references = ("build", "config") if isinstance(record, ComponentSpec) else ("run",)
    for attribute in references:
        if not isinstance(value := getattr(record, attribute), Ref):
            raise PluginError(f'{hook}: {attribute} of "{record.name}" is {_shown(value)}; it must be a Ref')
    if not isinstance(record.summary, str):
        raise PluginError(f'{hook}: summary of "{record.name}" is {_shown(record.summary)}; it must be a str')


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{what}: the name {_shown(name)} must match {_NAME.pattern}")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _one_line(error: BaseException) -> str:
    """Return an error as one line; a :class:`PluginError` already says it all, others need their type."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
