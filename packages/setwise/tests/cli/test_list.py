"""`setwise list`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.cli.main import main
from setwise.registry import KINDS

Install = Callable[..., Path]

PLUGIN = """
from setwise.plugin import *


@hookimpl
def setwise_tasks():
    yield TaskSpec("guess", Ref("nowhere:build"), Ref("nowhere:Options"), "Guess [the] answer")


@hookimpl
def setwise_recipes():
    yield RecipeSource("demo_plugin")
"""


@pytest.fixture
def demo(install: Install) -> None:
    files = {"demo_plugin/__init__.py": PLUGIN, "demo_plugin/recipes/quick.yaml": "# A quick one\nseed: 1\n"}
    install("setwise-demo", "demo", files, target="demo_plugin")


def test_names_of_all_kinds_are_listed(demo: None, capsys: pytest.CaptureFixture[str]):
    assert main(["list", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in rows} == {*KINDS, "recipes"}
    assert {"kind": "tasks", "name": "demo/guess", "summary": "Guess [the] answer"} in rows
    assert {"kind": "recipes", "name": "demo/quick", "summary": "A quick one"} in rows


def test_one_kind_is_a_table_of_lines_in_a_pipe(demo: None, capsys: pytest.CaptureFixture[str]):
    assert main(["list", "tasks"]) == 0

    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["kind", "name", "summary"]
    assert all(line.startswith("tasks  ") for line in lines)
    [line] = [line for line in lines if "demo/guess" in line]
    assert line.split(maxsplit=2) == ["tasks", "demo/guess", "Guess [the] answer"]


def test_terminal_shows_the_same_table(demo: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")

    assert main(["list", "tasks"]) == 0
    assert "Guess [the] answer" in capsys.readouterr().out


def test_unknown_kind(capsys: pytest.CaptureFixture[str]):
    assert main(["list", "model"]) == 2
    assert capsys.readouterr().err == (
        'setwise: unknown kind "model"; the kinds are models, attentions, datasets, tasks, optimizers, schedules, '
        'recipes; did you mean "models"?\n'
    )


def test_broken_plugin_is_noted(install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    install("setwise-broken", "broken", {"broken.py": "import no_such_module\n"})
    monkeypatch.setenv("SETWISE_PLUGINS", "broken")

    main(["list", "tasks"])
    assert capsys.readouterr().err == 'not loaded: broken; "setwise plugins" says why\n'
    main(["list", "tasks", "--quiet"])
    assert capsys.readouterr().err == ""
