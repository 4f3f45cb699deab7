"""The rules of CONTRIBUTING that can be counted, for the sources of every installed distribution of this workspace."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest

MAX_FILE_LINES = 440  # "about 400"
MAX_FUNCTION_LINES = 70
MAX_CONSTRUCTOR_PARAMETERS = 12
VAGUE_NAMES = re.compile(r"(utils?|helpers?|misc|common)|.*_v\d+")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


@pytest.fixture(scope="module")
def sources(installed: dict[str, Distribution]) -> dict[str, str]:
    """Text of every Python file of core and its first-party plugins, by path in site-packages."""
    return {
        str(file): Path(str(file.locate())).read_text(encoding="utf-8")
        for distribution in installed.values()
        if distribution.metadata["Author"] == "The setwise authors"
        for file in distribution.files or ()
        if file.suffix == ".py"
    }


def functions(sources: dict[str, str]) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.lineno} {node.name}", node


def test_there_are_sources_of_core_and_of_plugins(sources: dict[str, str]):
    assert {Path(path).parts[0] for path in sources} >= {"setwise", "setwise_npt"}


def test_files_are_short(sources: dict[str, str]):
    lengths = {path: source.count("\n") for path, source in sources.items()}

    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_are_short(sources: dict[str, str]):
    lengths = {place: (node.end_lineno or node.lineno) - node.lineno + 1 for place, node in functions(sources)}

    assert {place: lines for place, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_constructors_take_few_parameters_and_name_them(sources: dict[str, str]):
    crowded = []
    for place, node in functions(sources):
        positional = [*node.args.posonlyargs, *node.args.args][1:]
        if node.name == "__init__" and len(positional) + len(node.args.kwonlyargs) > MAX_CONSTRUCTOR_PARAMETERS:
            crowded.append(place)

    assert crowded == []


def test_modules_are_named_after_what_they_contain(sources: dict[str, str]):
    assert [path for path in sources if VAGUE_NAMES.fullmatch(Path(path).stem)] == []


def test_nothing_is_left_unfinished(sources: dict[str, str]):
    marks = {path: UNFINISHED.findall(source) for path, source in sources.items()}

    assert {path: found for path, found in marks.items() if found} == {}
