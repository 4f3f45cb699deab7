"""Who may know whom: plugins use public names of core only, no plugin knows another, core names no plugin."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest


def sources(distribution: Distribution) -> Iterator[tuple[str, str]]:
    for file in distribution.files or ():
        if file.suffix == ".py":
            yield str(file), Path(str(file.locate())).read_text(encoding="utf-8")


def package(distribution: Distribution) -> str:
    return distribution.metadata["Name"].replace("-", "_")


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, with the imported name where one is named."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.fixture
def plugins(installed: dict[str, Distribution]) -> dict[str, Distribution]:
    return {name: distribution for name, distribution in installed.items() if name != "setwise"}


def test_plugins_are_installed(plugins: dict[str, Distribution]):
    assert "npt" in plugins


def test_plugins_import_only_public_names_of_core(plugins: dict[str, Distribution]):
    private = [
        f"{file}:{line} imports {name}"
        for distribution in plugins.values()
        for file, source in sources(distribution)
        for line, name in imports(source)
        if name.split(".")[0] == "setwise" and any(part.startswith("_") for part in name.split("."))
    ]

    assert private == []


def test_no_plugin_imports_another(plugins: dict[str, Distribution]):
    packages = {package(distribution) for distribution in plugins.values()}
    crossing = [
        f"{file}:{line} imports {name}"
        for distribution in plugins.values()
        for file, source in sources(distribution)
        for line, name in imports(source)
        if name.split(".")[0] in packages - {package(distribution)}
    ]

    assert crossing == []


def test_no_plugin_requires_another(plugins: dict[str, Distribution]):
    names = {distribution.metadata["Name"] for distribution in plugins.values()}
    crossing = [
        f"{distribution.metadata['Name']} requires {requirement}"
        for distribution in plugins.values()
        for requirement in distribution.requires or ()
        if re.split(r"[^\w.-]", requirement)[0] in names
    ]

    assert crossing == []


def test_core_names_no_plugin_outside_the_hint_for_missing_names(
    installed: dict[str, Distribution], plugins: dict[str, Distribution]
):
    words = {word for name, distribution in plugins.items() for word in (name, package(distribution))}
    mention = re.compile(rf"\b({'|'.join(sorted(words))})\b")
    naming = [
        f"{file}:{line}: {text!r}"
        for file, source in sources(installed["setwise"])
        for line, text in strings_and_imports(source)
        if mention.search(text)
    ]

    assert naming == []


def strings_and_imports(source: str) -> Iterator[tuple[int, str]]:
    """What code does with names: its imports and its strings, without docstrings and the table behind the hint."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "_FIRST_PARTY" for target in targets):
            prose |= {id(node) for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value
    yield from imports(source)
