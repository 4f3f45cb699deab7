"""YAML 1.2 text and dotted overrides as plain data that remembers where each value came from.

PyYAML reads YAML 1.1, where ``1e-3`` is a string, ``on`` is true and ``1:30`` is ninety. Only its parser is used here;
scalars follow the core schema of YAML 1.2.2 (section 10.3.2), keys must be unique strings, and every path through the
document is mapped to its line or to the override that set it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

Path = tuple[str | int, ...]
"""Keys and indices that lead from the top of a document to a value."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    (f"{_TAG}null", re.compile(r"(?:null|Null|NULL|~|)\Z")),
    (f"{_TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    (f"{_TAG}int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")),
    (
        f"{_TAG}float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
    ),
)


class Problem(NamedTuple):
    """Something wrong, and where: a line of the file, or 0 and an override, or 0 when there is no file."""

    line: int
    override: str
    message: str


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {None: list(_SCALARS)}  # noqa: RUF012 - PyYAML's own convention

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported; write the value out", problem_mark=mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes what both YAML 1.1 and 1.2 read alike; short lists stay on one line."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own convention
        **yaml.SafeDumper.yaml_implicit_resolvers,
        None: list(_SCALARS),
    }

    def represent_scalar(self, tag: str, value: str, style: str | None = None) -> yaml.ScalarNode:
        # Only double quotes escape, and the line breaks of Unicode do not survive in any other style.
        return super().represent_scalar(tag, value, style=style if value.isprintable() else '"')

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        scalars = not any(isinstance(item, (dict, list)) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=scalars)


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Write plain data as YAML that :meth:`Document.parse` reads back exactly, floats included."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


@dataclass
class Document:
    """Plain data with the origin of every value.

    Attributes:
        data: the top-level mapping.
        lines: line (from 1) of every path that the text has.
        overrides: the override that set a path last, for every path that an override has set.
        problems: what is wrong so far.
    """

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Document:
        """Read YAML 1.2 text; what is wrong with it is listed in :attr:`problems`."""
        document = cls()
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            document.problems.append(_syntax_problem(error, text))
            return document
        if isinstance(node, yaml.MappingNode):
            document.data = document._convert(node, ())
        elif node is not None and node.tag != f"{_TAG}null":
            found = "a list" if isinstance(node, yaml.SequenceNode) else f'"{node.value}"'
            message = f"the top level is {found}; it must be a mapping of sections to their values"
            document.problems.append(Problem(node.start_mark.line + 1, "", message))
        return document

    def override(self, text: str) -> None:
        """Apply ``path.to.key=value``, the value being YAML.

        A path through a bare name (``task: regression``) turns it into a section with that ``name``. Setting the
        ``name`` of a section to something else starts the section afresh: of what was there, only values that other
        overrides have set are kept, because the options of one component mean nothing to another.
        """
        dotted, equals, value = text.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            return self._reject(text, "an override has the form path.to.key=value")
        if not value.strip():
            return self._reject(text, "there is no value after the =; write null for none")
        try:
            node = yaml.compose(value, Loader=_Loader)
        except yaml.YAMLError as error:
            return self._reject(text, _syntax_problem(error, value).message)
        section: dict[str, Any] = self.data
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            inner: Any = section.setdefault(key, {})
            if isinstance(inner, str):
                inner = section[key] = {"name": inner}
                self._copy_origin(path, (*path, "name"))
            if not isinstance(inner, dict):
                return self._reject(text, f"{'.'.join(map(str, path))} is {shown(inner)}, not a section")
            if path not in self.lines:
                self.overrides.setdefault(path, text)
            section = inner
        path = (*path, keys[-1])
        if keys[-1] == "name" and isinstance(old := section.get("name"), str) and not _same_name(old, node):
            self._drop_what_the_file_set(section, path[:-1])
        self._forget(path)
        section[keys[-1]] = self._convert(node, path, override=text)
        return None

    def origin(self, path: Path) -> tuple[int, str]:
        """Return the line, or 0 and the override, that set a path or the nearest section around it."""
        for length in range(len(path), -1, -1):
            if override := self.overrides.get(path[:length]):
                return 0, override
            if line := self.lines.get(path[:length]):
                return line, ""
        return int(bool(self.lines)), ""

    def _reject(self, override: str, message: str) -> None:
        self.problems.append(Problem(0, override, message))

    def _convert(self, node: Any, path: Path, *, override: str = "") -> Any:
        if override:
            self.overrides[path] = override
        else:
            self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(item, (*path, index), override=override) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._convert_mapping(node, path, override)
        try:
            return _scalar(node)
        except ValueError:
            message = f'the tag {node.tag} does not fit "{node.value}"; write a plain value'
            self.problems.append(Problem(0 if override else node.start_mark.line + 1, override, message))
            return None

    def _convert_mapping(self, node: yaml.MappingNode, path: Path, override: str) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, str(key_node.value)
            where = ".".join(map(str, (*path, key)))
            message = ""
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                section = ".".join(map(str, path)) or "the top level"
                message = f"{section}: a key must be a name; put it in quotes if it is meant to be one"
            elif key == "<<" and key_node.style is None:
                message = f"{where}: merge keys (<<) are not part of YAML 1.2; write the values out"
            elif key in mapping:
                message = f"{where}: this key is already on line {first_lines[key]}; keep one of them"
            if message:
                self.problems.append(Problem(0 if override else line, override, message))
                continue
            first_lines[key] = line
            if not override:
                self.lines[(*path, key)] = line  # the line of the key: its value may start on a later one
            mapping[key] = self._convert(value_node, (*path, key), override=override)
        return mapping

    def _copy_origin(self, source: Path, target: Path) -> None:
        if source in self.lines:
            self.lines[target] = self.lines[source]
        if source in self.overrides:
            self.overrides[target] = self.overrides[source]

    def _forget(self, path: Path) -> None:
        """Drop the origins of everything below a path that is about to be replaced."""
        for origins in (self.lines, self.overrides):
            for known in [known for known in origins if known[: len(path)] == path]:
                del origins[known]

    def _drop_what_the_file_set(self, section: dict[str, Any], path: Path) -> None:
        for key, value in list(section.items()):
            inner = (*path, key)
            if isinstance(value, dict) and any(known[: len(inner)] == inner for known in self.overrides):
                self._drop_what_the_file_set(value, inner)
            elif inner not in self.overrides:
                del section[key]
                self._forget(inner)


def shown(value: Any) -> str:
    """Show a value in a message the way it is written in YAML."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else repr(value)


def _same_name(old: str, new: Any) -> bool:
    """Tell whether two names are one component: equal, or one is the bare name of the other."""
    name = str(getattr(new, "value", ""))
    return old == name or old.endswith(f"/{name}") or name.endswith(f"/{old}")


def _scalar(node: yaml.ScalarNode) -> Any:
    text, tag = node.value, node.tag.removeprefix(_TAG)
    match tag:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise ValueError(node.tag)


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(1, "", f"this is not YAML: {' '.join(str(error).split())}")
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    what = " ".join(part for part in (error.context, error.problem) if part)
    lines = text.splitlines()
    if line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        what = "indentation must be spaces, not tabs"
    return Problem(line + 1, "", f"this is not YAML: {what}")
