"""Turn the errors of a validation into lines that say where, what was given, what is allowed and what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from setwise.document import Document, Path, Problem, shown
from setwise.errors import suggest

_MUST_BE: Mapping[str, str] = {
    "bool": "true or false",
    "dict": "a mapping of keys to values",
    "float": "a number",
    "finite_number": "a finite number",
    "frozen_set": "a list",
    "int": "an integer",
    "list": "a list",
    "mapping": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "model_attributes": "a mapping of keys to values",
    "path": "a path",
    "set": "a list",
    "string": "a string",
    "tuple": "a list",
}
"""What a value must be, by the stem of pydantic's error type: ``int_type``, ``int_parsing``, ``int_from_float``."""

_BOUNDS: Mapping[str, str] = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "text of length {max_length} or less",
    "string_too_short": "text of length {min_length} or more",
    "too_long": "of length {max_length} or less",
    "too_short": "of length {min_length} or more",
}
"""What a value must be, by pydantic's error type, with the fields of the error's context."""


_ABSENT = ("missing", "inconsistent")
"""Types of errors about a key that may not be there."""


def explain(error: ValidationError, document: Document) -> list[Problem]:
    """Return one problem for each place of a document that failed validation."""
    by_path: dict[Path, list[Any]] = {}
    for each in error.errors(include_url=False):
        by_path.setdefault(_path_in(document.data, each), []).append(each)
    problems = []
    for path, errors in by_path.items():
        line, override = document.origin(path)
        where = f"{'.'.join(map(str, path))}: " if path else ""
        problems.append(Problem(line, override, f"{where}{_say(errors)}"))
    return problems


def describe_problems(problems: Iterable[Problem], label: str, overrides: Sequence[str] = ()) -> str:
    """Write problems as one message: those of the file by line, then those of the overrides in their order."""
    ranks = {override: rank for rank, override in enumerate(overrides, start=1)}
    lines = [
        f"override {override}: {message}" if override else f"{label}{f':{line}' if line else ''}: {message}"
        for line, override, message in sorted(problems, key=lambda each: (ranks.get(each.override, 0), each.line))
    ]
    lines = list(dict.fromkeys(lines))
    return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems in the configuration:", *lines])


def _path_in(data: Any, error: Any) -> Path:
    """Return the path of an error without the labels that pydantic adds for the branches of a union."""
    path: list[str | int] = []
    location = error["loc"]
    for position, key in enumerate(location):
        present = data if isinstance(data, Mapping) else range(len(data)) if isinstance(data, list) else ()
        if key in present:
            path, data = [*path, key], data[key]
        elif isinstance(key, str) and (position == 0 or (error["type"] in _ABSENT and position == len(location) - 1)):
            path = [*path, key]
    return tuple(path)


def _say(errors: list[Any]) -> str:
    """Say what is wrong at one place; several errors are those of the branches of a union."""
    complete = [message for each in errors if (message := _complete_message(each))]
    if complete:
        return "; ".join(dict.fromkeys(complete))
    demands = dict.fromkeys(_demand(each) for each in errors)
    hints = [suggest(str(each["input"]), _literals(each)) for each in errors if each["type"] == "literal_error"]
    return f"given {shown(errors[0]['input'])}, must be {' or '.join(demands)}{''.join(dict.fromkeys(hints))}"


def _complete_message(error: Any) -> str:
    """Return the message of an error that validators of setwise or of a plugin raised, which is a whole one."""
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return "" if _demand(error) else message


def _demand(error: Any) -> str:
    """Return what pydantic demands of a value, ready to follow "must be"; empty when it is not in that form."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    if kind == "missing" and isinstance(error["loc"][-1], int):  # of a tuple
        return "a longer list"
    if kind == "literal_error":
        literals = _literals(error)
        return literals[0] if len(literals) == 1 else f"one of {', '.join(literals)}"
    stem = re.sub(r"_(type|parsing|parsing_size|from_float)$", "", kind)
    prefix = "Input should be "
    return _MUST_BE.get(stem) or (error["msg"].removeprefix(prefix) if error["msg"].startswith(prefix) else "")


def _literals(error: Any) -> list[str]:
    """Return the values that a literal may have, out of pydantic's list of them: ``'relu', 'gelu' or 3``."""
    values = re.findall(r"'([^']*)'|([^\s',]+)", error["ctx"]["expected"])
    return [quoted or bare for quoted, bare in values if bare != "or"]
