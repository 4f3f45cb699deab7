"""No test of data reads the variables or writes to the folders of the person who runs it."""

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does, and on what was imported before it.
settings.register_profile("setwise", deadline=None)
settings.load_profile("setwise")


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("SETWISE_DATA", "SETWISE_OFFLINE", "TIKTOKEN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
