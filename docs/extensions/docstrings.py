"""Reads the docstrings of this project for the documentation: an extension of griffe, see `mkdocs.yml`."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
MATH_BLOCK = re.compile(r"^\.\. math::(.*(?:\n+[ \t]+\S.*)*)", re.MULTILINE)
MATH = re.compile(r":math:`([^`]+)`")
ROLE = re.compile(r":[a-z]+:`(~?)([\w.]+)`")


class ProjectDocstrings(griffe.Extension):
    """Makes an `Example:` code, a formula MathML, and a cross-reference such as :class:`~package.Name` a link."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            text = EXAMPLE.sub("Examples:", obj.docstring.value)
            text = MATH_BLOCK.sub(formula, text)
            text = MATH.sub(lambda match: convert(match[1]), text)
            obj.docstring.value = ROLE.sub(link, text)


def formula(block: re.Match[str]) -> str:
    """Return the lines of a formula, each as MathML, which browsers show without a script."""
    lines = re.split(r"\\\\\s", " ".join(block[1].split()) + " ")
    return "".join(f"\n<p>{convert(line.strip(), display='block')}</p>\n" for line in lines)


def link(role: re.Match[str]) -> str:
    """Return a cross-reference in the notation of mkdocs; names that are not absolute are set as code."""
    shortened, name = role.groups()
    text = f"`{name.rpartition('.')[2] if shortened else name}`"
    return f"[{text}][{name}]" if name.startswith("setwise") else text
