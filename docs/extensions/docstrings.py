"""Reads the docstrings of this project for the documentation: an extension of griffe, see `mkdocs.yml`."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
ROLE = re.compile(r":[a-z]+:`(~?)([\w.]+)`")


class ProjectDocstrings(griffe.Extension):
    """Makes an `Example:` a section of code, and a cross-reference such as :class:`~package.Name` a link."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(link, EXAMPLE.sub("Examples:", obj.docstring.value))


def link(role: re.Match[str]) -> str:
    """Return a cross-reference in the notation of mkdocs; names that are not absolute are set as code."""
    shortened, name = role.groups()
    text = f"`{name.rpartition('.')[2] if shortened else name}`"
    return f"[{text}][{name}]" if name.startswith("setwise") else text
