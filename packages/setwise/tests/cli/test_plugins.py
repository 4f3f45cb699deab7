"""`setwise plugins`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.cli.main import main

Install = Callable[..., Path]


@pytest.fixture
def broken(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("setwise-broken", "broken", {"broken_plugin.py": "import no_such_module\n"}, version="2.1")
    monkeypatch.setenv("SETWISE_PLUGINS", "broken,absent")


def test_every_plugin_has_a_line(broken: None, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins"]) == 0

    lines = {line.split()[0]: line.split(maxsplit=4) for line in capsys.readouterr().out.splitlines()}
    assert lines["plugin"] == ["plugin", "distribution", "version", "status", "notes"]
    assert lines["setwise"][1:4] == ["setwise", "0.1.0", "ok"]
    assert lines["broken"][1:] == [
        "setwise-broken",
        "2.1",
        "failed",
        "cannot import broken_plugin: ModuleNotFoundError: No module named 'no_such_module'",
    ]
    assert lines["absent"][1:4] == ["-", "-", "failed"]


def test_json(broken: None, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "--json"]) == 0

    statuses = {row["plugin"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert (statuses["setwise"], statuses["broken"]) == ("ok", "failed")


def test_traceback_shows_where_a_plugin_failed(broken: None, capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "--traceback"]) == 0

    error = capsys.readouterr().err
    assert "\nbroken:\nTraceback (most recent call last):" in error
    assert 'broken_plugin.py", line 1, in <module>' in error
