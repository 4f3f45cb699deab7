from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.errors import SetwiseError
from setwise.train.runs import RunFolder, find_runs, new_run, open_run

MakeRun = Callable[..., RunFolder]


def test_new_run_is_named_by_recipe_time_and_id_and_made_by_create(tmp_path: Path):
    run = new_run(tmp_path / "runs", "npt/breast-cancer")

    assert re.fullmatch(r"npt/breast-cancer/\d{8}-\d{6}-[0-9a-f]{6}", run.name)
    assert not run.path.exists()
    run.create()
    assert run.path.is_dir()


def test_two_runs_of_the_same_second_differ(tmp_path: Path):
    assert new_run(tmp_path, "npt/a").name != new_run(tmp_path, "npt/a").name


def test_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path):
    (tmp_path / "runs").write_text("a file")

    with pytest.raises(SetwiseError, match="choose another place with --runs"):
        new_run(tmp_path / "runs", "npt/a").create()


def test_update_info_merges_and_stays_json(make_run: MakeRun):
    run = make_run(info=None)

    run.update_info({"status": "running", "seed": 3})
    run.update_info({"status": "done", "best": {"value": math.nan}})

    assert run.info() == {"status": "done", "seed": 3, "best": {"value": None}}
    assert "NaN" not in run.info_path.read_text()


@pytest.mark.parametrize("content", ["{", "[1]", "", "\x00"])
def test_damaged_info_is_named(make_run: MakeRun, content: str):
    run = make_run()
    run.info_path.write_text(content)

    with pytest.raises(SetwiseError, match=r"run\.json"):
        run.info()


def test_missing_info_is_named(make_run: MakeRun):
    with pytest.raises(SetwiseError, match=r"run\.json cannot be read"):
        make_run(info=None).info()


def test_metrics_before_the_first_record_are_empty(make_run: MakeRun):
    assert make_run(records=None).metrics() == []


def test_find_runs_gives_oldest_first_across_recipes(make_run: MakeRun, tmp_path: Path):
    names = ["npt/b/20250102-000000-000000", "npt/a/20250103-000000-000000", "swarm/c/20250101-000000-000000"]
    for name in names:
        make_run(name)
    make_run("npt/no-run/20250104-000000-000000", info=None)

    assert [run.name for run in find_runs(tmp_path / "runs")] == [names[2], names[0], names[1]]


def test_find_runs_where_there_is_no_folder_finds_none(tmp_path: Path):
    assert list(find_runs(tmp_path / "nothing")) == []


@pytest.mark.parametrize(
    "given", ["a1b2c3", "20250102-000000-a1b2c3", "b/20250102-000000-a1b2c3", "npt/b/20250102-000000-a1b2c3", "b"]
)
def test_open_run_takes_an_id_or_the_end_of_a_name(make_run: MakeRun, tmp_path: Path, given: str):
    wanted = make_run("npt/b/20250102-000000-a1b2c3")
    make_run("npt/c/20250103-000000-d4e5f6")

    assert open_run(given, tmp_path / "runs").path == wanted.path


def test_open_run_takes_a_folder_from_anywhere(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make_run()
    monkeypatch.chdir(run.path)

    assert open_run(".", tmp_path / "elsewhere").name == run.name


def test_open_run_latest_is_the_newest(make_run: MakeRun, tmp_path: Path):
    newest = make_run("npt/b/20250102-000000-a1b2c3")
    make_run("npt/c/20250101-000000-d4e5f6")

    assert open_run("latest", tmp_path / "runs").path == newest.path


def test_ambiguous_run_names_those_that_fit(make_run: MakeRun, tmp_path: Path):
    make_run("npt/b/20250102-000000-a1b2c3")
    make_run("npt/b/20250103-000000-d4e5f6")
    make_run("npt/c/20250104-000000-000000")

    with pytest.raises(SetwiseError, match="fits 2 runs") as caught:
        open_run("b", tmp_path / "runs")

    assert "a1b2c3" in str(caught.value)
    assert "d4e5f6" in str(caught.value)
    assert "npt/c" not in str(caught.value)


@pytest.mark.parametrize("given", ["ffffff", "latest"])
def test_unknown_run_among_none_says_so(tmp_path: Path, given: str):
    with pytest.raises(SetwiseError, match="newest runs: none"):
        open_run(given, tmp_path / "runs")


def test_unknown_run_names_the_newest(make_run: MakeRun, tmp_path: Path):
    make_run()

    with pytest.raises(SetwiseError, match=r"newest runs: npt/breast-cancer/20251120-182500-a1b2c3"):
        open_run("ffffff", tmp_path / "runs")


def test_run_json_is_readable_by_any_json_reader(make_run: MakeRun):
    run = make_run(info=None)
    run.update_info({"name": "Zürich"})

    assert json.loads(run.info_path.read_bytes()) == {"name": "Zürich"}
