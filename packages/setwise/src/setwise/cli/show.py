"""``setwise show``: one component with its options, or one recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import BaseModel

from setwise.cli.list import choose_kinds
from setwise.cli.output import Output, OutputParameter
from setwise.component import load_reference
from setwise.config import RunConfig
from setwise.document import shown
from setwise.errors import UnknownNameError
from setwise.plugin import ComponentSpec
from setwise.recipes import RecipeEntry
from setwise.registry import Entry, Registry, default_registry


def show(name: str, /, *, kind: str | None = None, schema: bool = False, output: OutputParameter) -> None:
    """Show what a component is and which options it has, or what a recipe says.

    Args:
        name: <plugin>/<name>, or a bare name where only one plugin has it.
        kind: tells things of one name apart: models, attentions, datasets, tasks, optimizers, schedules or recipes.
        schema: write the JSON schema of the options, or of a whole recipe, instead.
    """
    found = _find(default_registry(), name, choose_kinds(kind))
    if schema and len(found) > 1:
        kinds = " or ".join(_kind(each) for each in found)
        raise UnknownNameError(f'"{name}" names {len(found)} things; add --kind {kinds}')
    if schema:
        output.json_text(_options(found[0]).model_json_schema())
        return
    output.document([_as_data(each) for each in found])
    for position, each in enumerate(found):
        if position:
            output.line()
        if isinstance(each, RecipeEntry):
            _show_recipe(each, output)
        else:
            _show_component(each, output)


def _find(registry: Registry, name: str, kinds: tuple[str, ...]) -> list[Entry | RecipeEntry]:
    found: list[Entry | RecipeEntry] = []
    errors = []
    for kind in kinds:
        try:
            found.append(registry.recipe(name) if kind == "recipes" else registry.get(kind, name))
        except UnknownNameError as error:
            errors.append(str(error))
    if not found:
        raise UnknownNameError(_explain(name, errors))
    return found


def _explain(name: str, errors: Sequence[str]) -> str:
    """Sum up what looking a name up in one kind after the other has told."""
    # Each kind has its own nearest name. What says nothing but what there is would be a list of everything here.
    helpful = [
        error for error in errors if any(hint in error for hint in (" did you mean ", ": the plugin ", "ambiguous"))
    ]
    reasons = {error.partition(f'"{name}"')[2] for error in helpful}
    if len(helpful) > 1 and len(reasons) == 1:
        return f'unknown name "{name}"{reasons.pop()}'
    return "\n".join(helpful) or f'unknown name "{name}"; see "setwise list"'


def _kind(entry: Entry | RecipeEntry) -> str:
    return "recipes" if isinstance(entry, RecipeEntry) else entry.kind


def _options(entry: Entry | RecipeEntry) -> type[BaseModel]:
    return RunConfig if isinstance(entry, RecipeEntry) else load_reference(entry.qualified, entry.spec, "config")


def _as_data(entry: Entry | RecipeEntry) -> dict[str, Any]:
    data = {"kind": _kind(entry), "name": entry.qualified}
    if isinstance(entry, RecipeEntry):
        text = entry.path.read_bytes().decode("utf-8-sig")
        return {
            **data,
            "summary": entry.summary,
            "description": entry.description,
            "path": str(entry.path),
            "text": text,
        }
    return {
        **data,
        "summary": entry.spec.summary,
        **_facts(entry.spec),
        "options": list(describe_options(_options(entry))),
    }


def _facts(spec: ComponentSpec) -> dict[str, Any]:
    """Return what a record says beyond what all records of components say."""
    common = {field.name for field in fields(ComponentSpec)}
    facts = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name not in common}
    return {name: sorted(fact) if isinstance(fact, frozenset) else fact for name, fact in facts.items()}


def _show_recipe(entry: RecipeEntry, output: Output) -> None:
    output.line(f"{entry.qualified} (recipes): {entry.summary}")
    output.line(f"file: {entry.path}")
    output.line()
    output.line(entry.path.read_bytes().decode("utf-8-sig").rstrip())


def _show_component(entry: Entry, output: Output) -> None:
    output.line(f"{entry.qualified} ({entry.kind}): {entry.spec.summary}")
    for name, fact in _facts(entry.spec).items():
        output.line(f"{name}: {', '.join(map(str, fact)) if isinstance(fact, list) else fact}")
    rows = list(describe_options(_options(entry)))
    output.line()
    if output.json:
        return
    if rows:
        output.table(rows)
    else:
        output.line("no options")


def describe_options(options: type[BaseModel]) -> Iterator[dict[str, str]]:
    """Yield option, type, default and description of each field, with fields of nested sections under dotted names."""
    schema = options.model_json_schema()
    yield from _rows(schema, schema.get("$defs", {}), prefix="")


def _rows(schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[dict[str, str]]:
    for name, field in schema.get("properties", {}).items():
        required = name in schema.get("required", ()) and "default" not in field
        yield {
            "option": prefix + name,
            "type": _type(field, definitions),
            "default": "(required)" if required else _value(field.get("default")),
            "description": field.get("description", ""),
        }
        for section in _sections(field, definitions):
            yield from _rows(section, definitions, prefix=f"{prefix}{name}.")


def _sections(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for choice in (field, *field.get("anyOf", ())):
        if "$ref" in choice:
            yield definitions[choice["$ref"].rpartition("/")[2]]


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "x-setwise-kind" in field:
        return f"one of the {field['x-setwise-kind']}"
    if "anyOf" in field:
        return " or ".join(_type(choice, definitions) for choice in field["anyOf"])
    if "enum" in field:
        return " or ".join(map(_value, field["enum"]))
    if "const" in field:
        return _value(field["const"])
    if "$ref" in field:
        return _type(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if field.get("type") == "array":
        items = field.get("prefixItems") or [field.get("items", {})]
        kinds = ", ".join(_type(item, definitions) for item in items)
        return f"[{kinds}]" if "prefixItems" in field else f"[{kinds}, ...]"
    if field.get("type") == "object":
        return "section"
    bounds = ", ".join(f"{sign} {field[bound]:g}" for bound, sign in _BOUNDS.items() if bound in field)
    return " ".join(filter(None, (field.get("type", "any"), bounds)))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)
