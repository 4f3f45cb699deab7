"""`setwise doctor`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.cli.main import main

Install = Callable[..., Path]


@pytest.fixture
def checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], dict[str, tuple[str, str]]]:
    """Runs the doctor in an empty folder and returns status and finding by the name of the check."""
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SETWISE_PLUGINS", "broken")
    monkeypatch.chdir(tmp_path)

    def run() -> dict[str, tuple[str, str]]:
        assert main(["doctor", "--json"]) == 0
        return {row["check"]: (row["status"], row["found"]) for row in json.loads(capsys.readouterr().out)}

    return run


def test_versions_device_and_folders_are_checked(
    checks: Callable[[], dict[str, tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SETWISE_OFFLINE", "1")
    found = checks()

    assert found["setwise"] == ("ok", "0.1.0")
    assert found["device"][0] == found["precision"][0] == "ok"
    assert found["cache"][0] == "ok"
    assert found["cache"][1].startswith(f"{tmp_path / 'cache'}, ")
    assert found["runs"][1].endswith("GiB free, writable")
    assert found["network"] == ("ok", "not used: SETWISE_OFFLINE is set")
    assert list((tmp_path / "cache").iterdir()) == []


def test_absent_requirement_of_an_extra_says_how_to_install(
    checks: Callable[[], dict[str, tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
):
    requirements = ["pluggy>=1.5", "absent-one>=2", "pluggy>=1; extra == 'full'", 'absent-two; extra == "tiny"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)

    found = checks()

    assert found["pluggy"][0] == "ok"
    assert found["absent-one"] == ("problem", "not installed; run: pip install absent-one")
    assert found["[full]"][0] == "ok"
    assert found["[tiny]"] == ("missing", 'optional; to have it: pip install "setwise[tiny]"')


def test_broken_plugin_is_a_problem(checks: Callable[[], dict[str, tuple[str, str]]], install: Install):
    install("setwise-broken", "broken", {"broken_plugin.py": "import no_such_module\n"})

    assert checks()["plugin broken"] == (
        "problem",
        "cannot import broken_plugin: ModuleNotFoundError: No module named 'no_such_module'",
    )


def test_folder_that_cannot_be_written_to_is_a_problem(
    checks: Callable[[], dict[str, tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)

    assert checks()["runs"][0] == "problem"
    assert checks()["runs"][1].endswith("but it cannot be written to: Read-only file system")


def test_cache_that_cannot_be_made_is_a_problem(
    checks: Callable[[], dict[str, tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "file" / "cache"))

    status, found = checks()["cache"]

    assert status == "problem"
    assert "set SETWISE_CACHE to a folder you can write to" in found


def test_number_of_problems_is_noted(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    install("setwise-broken", "broken", {"broken_plugin.py": "import no_such_module\n"})
    monkeypatch.setenv("SETWISE_PLUGINS", "broken")

    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "1 problem found\n"
