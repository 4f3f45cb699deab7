from pathlib import Path

import pytest

from setwise.data.locations import cache_folder, data_folder, find_path, is_offline
from setwise.errors import ConfigError, DataError


def test_data_folder_is_the_variable(monkeypatch, tmp_path):
    assert data_folder() is None

    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))

    assert data_folder() == tmp_path


def test_data_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("SETWISE_DATA", "/nowhere/at/all")

    with pytest.raises(DataError, match="SETWISE_DATA=/nowhere/at/all is not a folder"):
        data_folder()


def test_cache_folder_is_created_below_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))

    folder = cache_folder("openml", "31")

    assert folder == tmp_path / "cache" / "openml" / "31"
    assert folder.is_dir()


def test_cache_folder_defaults_to_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("SETWISE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))

    folder = cache_folder()

    assert tmp_path in folder.parents
    assert "setwise" in folder.parts


def test_cache_folder_that_cannot_be_created_says_what_to_set(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "file"))

    with pytest.raises(DataError, match=r"cannot create the cache folder .*file/images.*; set SETWISE_CACHE to"):
        cache_folder("images")


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("0", False), ("1", True), ("True", True), ("off", False)]
)
def test_offline_is_a_yes_or_a_no(monkeypatch, value, expected):
    monkeypatch.setenv("SETWISE_OFFLINE", value)

    assert is_offline() is expected


def test_offline_that_is_neither_is_refused(monkeypatch):
    monkeypatch.setenv("SETWISE_OFFLINE", "maybe")

    with pytest.raises(ConfigError, match="SETWISE_OFFLINE=maybe must be 1"):
        is_offline()


def test_network_is_allowed_by_default():
    assert not is_offline()


def test_paths_are_found_here_before_the_data_folder(monkeypatch, tmp_path):
    here, data = tmp_path / "here", tmp_path / "data"
    for folder, names in ((here, ("both.csv",)), (data, ("both.csv", "there.csv"))):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("SETWISE_DATA", str(data))

    assert find_path("both.csv") == Path("both.csv")
    assert find_path("there.csv") == data / "there.csv"
    assert find_path(data / "there.csv") == data / "there.csv"


def test_missing_path_is_named_in_both_places_with_the_nearest_name(monkeypatch, tmp_path):
    (tmp_path / "houses.csv").touch()
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))

    with pytest.raises(DataError) as error:
        find_path("house.csv")

    assert str(error.value) == (
        f'there is no file or folder house.csv or {tmp_path / "house.csv"}; did you mean "houses.csv"?'
    )


def test_missing_path_without_a_data_folder_says_that_there_may_be_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        DataError, match=r"no file or folder no/such\.csv; relative paths are also looked up in SETWISE_DATA"
    ):
        find_path("no/such.csv")
