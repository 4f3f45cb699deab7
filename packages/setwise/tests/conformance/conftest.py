"""The suites read no variables and write to no folders of the person who runs them."""

import pytest


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")
    monkeypatch.delenv("SETWISE_DATA", raising=False)
