"""Suites are tested by what they say about faults."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")
    monkeypatch.delenv("SETWISE_DATA", raising=False)


@pytest.fixture
def run_suite_test(tmp_path: Path) -> Callable[..., None]:
    """Calls one test of a suite as pytest would."""

    def run(suite: Any, test: str, **arguments: Any) -> None:
        method = getattr(suite, test)
        if "tmp_path" in inspect.signature(method).parameters:
            arguments["tmp_path"] = tmp_path
        method(**arguments)

    return run


@pytest.fixture
def expect_bite(run_suite_test: Callable[..., None]) -> Callable[..., None]:
    """Fails unless one test of a suite fails with a message that has the given words; " ... " stands for any others."""

    def check(suite: Any, test: str, words: str, **arguments: Any) -> None:
        pattern = ".*".join(map(re.escape, words.split(" ... ")))
        try:
            with pytest.raises(AssertionError, match=re.compile(pattern, re.DOTALL)):
                run_suite_test(suite, test, **arguments)
        except pytest.skip.Exception as skipped:
            pytest.fail(f"{test} was skipped instead of failing: {skipped}")

    return check


@pytest.fixture
def tests_of() -> Callable[[type], set[str]]:
    """Returns the names of a suite's tests."""
    return lambda suite: {name for name in dir(suite) if name.startswith("test_")}
