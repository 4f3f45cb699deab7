"""``setwise list``: what can be named in a recipe or run."""

from __future__ import annotations

from setwise.cli.output import OutputParameter
from setwise.errors import UnknownNameError, suggest
from setwise.registry import KINDS, default_registry

NAMEABLE = (*KINDS, "recipes")
"""Kinds of things that have names."""


def list_names(kind: str | None = None, /, *, output: OutputParameter) -> None:
    """List models, attentions, datasets, tasks, optimizers, schedules and recipes with what they are.

    Args:
        kind: one of these words; all when left out.
    """
    registry = default_registry()
    rows = []
    for each in choose_kinds(kind):
        if each == "recipes":
            named = [(recipe.qualified, recipe.summary) for recipe in registry.recipes()]
        else:
            named = [(entry.qualified, entry.spec.summary) for entry in registry.entries(each)]
        rows += [{"kind": each, "name": name, "summary": summary} for name, summary in named]
    output.table(rows)
    broken = [status.name for status in registry.plugins if status.status not in ("ok", "disabled")]
    if broken:
        output.note(f'not loaded: {", ".join(broken)}; "setwise plugins" says why')


def choose_kinds(kind: str | None) -> tuple[str, ...]:
    """Return the kind that was asked for, or all.

    Raises:
        UnknownNameError: there is no such kind.
    """
    if kind is None:
        return NAMEABLE
    if kind not in NAMEABLE:
        near = suggest(kind, NAMEABLE)
        raise UnknownNameError(f'unknown kind "{kind}"; the kinds are {", ".join(NAMEABLE)}{near}')
    return (kind,)
