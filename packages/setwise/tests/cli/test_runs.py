from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setwise.cli.main import build_app
from setwise.errors import SetwiseError
from setwise.registry import load_registry
from setwise.train.runs import RunFolder

MakeRun = Callable[..., RunFolder]
Call = Callable[..., tuple[str, str]]
FIRST, SECOND, THIRD = "20250101-000000-aaaaaa", "20250102-000000-bbbbbb", "20250103-000000-cccccc"


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Runs `setwise` with arguments on the runs of the test and returns what it prints: results and notes."""
    app = build_app(load_registry(disabled=True))

    def run(*arguments: str) -> tuple[str, str]:
        app.meta([*arguments, "--runs", str(tmp_path / "runs")], exit_on_error=False, print_error=False)
        out, err = capsys.readouterr()
        return out, err

    return run


def rows(printed: tuple[str, str]) -> list[list[str]]:
    return [line.split() for line in printed[0].splitlines()]


def test_table_has_a_row_for_each_run_oldest_first(make_run: MakeRun, call: Call, run_info: dict[str, Any]):
    make_run(f"npt/b/{SECOND}", info={**run_info, "status": "stopped", "stop_reason": "SIGTERM", "best": None})
    make_run(f"npt/a/{FIRST}")

    assert rows(call("runs")) == [
        ["run", "status", "step", "best", "time"],
        [f"npt/a/{FIRST}", "done", "13", "val/loss", "0.3", "1:02:03"],
        [f"npt/b/{SECOND}", "stopped:", "SIGTERM", "13", "-", "1:02:03"],
    ]


def test_running_run_shows_its_last_record(make_run: MakeRun, call: Call, run_records: list[dict[str, Any]]):
    make_run(f"npt/a/{FIRST}", info={"status": "running", "elapsed": 1.0, "step": 3}, records=run_records[:3])

    assert rows(call("runs"))[1] == [f"npt/a/{FIRST}", "running", "13", "-", "0:00:06"]


def test_run_that_has_just_started_is_listed(make_run: MakeRun, call: Call):
    make_run(f"npt/a/{FIRST}", info={"status": "running"}, records=None)

    assert rows(call("runs"))[1] == [f"npt/a/{FIRST}", "running", "-", "-", "-"]


def test_damaged_run_costs_one_row_and_one_message(make_run: MakeRun, call: Call):
    make_run(f"npt/a/{FIRST}").info_path.write_text("{")
    make_run(f"npt/b/{SECOND}")

    printed = call("runs")

    assert [row[:2] for row in rows(printed)[1:]] == [[f"npt/a/{FIRST}", "damaged"], [f"npt/b/{SECOND}", "done"]]
    assert f"{FIRST}/run.json is damaged" in printed[1]


@pytest.mark.parametrize(("recipe", "kept"), [("npt/a", [FIRST]), ("a", [FIRST, THIRD]), ("npt", [FIRST, SECOND])])
def test_recipe_filters_by_name_or_either_half(
    make_run: MakeRun, call: Call, run_info: dict[str, Any], recipe: str, kept: list[str]
):
    for name in (f"npt/a/{FIRST}", f"npt/b/{SECOND}", f"swarm/a/{THIRD}"):
        make_run(name, info={**run_info, "recipe": name.rpartition("/")[0]})

    assert [row[0].rpartition("/")[2] for row in rows(call("runs", "--recipe", recipe))[1:]] == kept


def test_no_runs_say_so(call: Call, tmp_path: Path):
    assert call("runs") == ("", f"no runs below {tmp_path / 'runs'}; setwise train makes one\n")
    assert call("runs", "--recipe", "npt/a")[1].startswith("no runs of npt/a below")
    assert json.loads(call("runs", "--json")[0]) == []


def test_json_gives_the_values_in_full(make_run: MakeRun, call: Call, run_info: dict[str, Any]):
    run = make_run(f"npt/a/{FIRST}")

    (described,) = json.loads(call("runs", "--json")[0])

    assert (described["name"], described["path"]) == (f"npt/a/{FIRST}", str(run.path))
    for key in ("recipe", "status", "stop_reason", "step", "best", "elapsed", "final"):
        assert described[key] == run_info[key]


def test_long_names_are_not_cut_in_a_pipe(make_run: MakeRun, call: Call):
    make_run(f"npt/{'a' * 101}/{FIRST}")

    assert rows(call("runs"))[1][0] == f"npt/{'a' * 101}/{FIRST}"


def test_compare_shows_what_differs_and_all_metrics(make_run: MakeRun, call: Call, run_records: list[dict[str, Any]]):
    config = "model:\n  name: npt/npt\n  dims: [3, 5]\n{}optimizer:\n  lr: {}\ntrainer:\n  tf32: {}\n"
    make_run(f"npt/a/{FIRST}", config=config.format("", "1e-3", "true"))
    make_run(f"npt/a/{SECOND}", config=config.format("  heads: 7\n", "0.01", "false"), records=run_records[:2])

    assert rows(call("runs", "compare", "aaaaaa", "bbbbbb")) == [
        ["configuration", FIRST, SECOND],
        ["optimizer.lr", "0.001", "0.01"],
        ["trainer.tf32", "true", "false"],
        ["model.heads", "-", "7"],
        [],
        ["metric", FIRST, SECOND],
        ["val/loss", "0.3", "0.8"],
        ["val/accuracy", "0.75", "0.5"],
        ["test/loss", "0.35", "-"],
        ["test/accuracy", "0.71", "-"],
        ["train/loss", "-", "0.9"],
    ]


def test_compare_as_json_has_a_column_for_each_run(make_run: MakeRun, call: Call):
    for name, seed in ((FIRST, 3), (SECOND, 5), (THIRD, 3)):
        make_run(f"npt/a/{name}", config=f"seed: {seed}\nmodel: {{name: npt/npt}}\n")

    compared = json.loads(call("runs", "compare", FIRST, SECOND, THIRD, "--json")[0])

    assert compared["runs"] == [f"npt/a/{name}" for name in (FIRST, SECOND, THIRD)]
    assert compared["config"] == {"seed": [3, 5, 3]}
    assert compared["metrics"]["test/loss"] == [0.35, 0.35, 0.35]


def test_compare_of_equal_configurations_says_so(make_run: MakeRun, call: Call):
    make_run(f"npt/a/{FIRST}")
    make_run(f"npt/a/{SECOND}")

    assert rows(call("runs", "compare", FIRST, SECOND))[0] == ["the", "configurations", "are", "equal"]


def test_compare_needs_two_runs(make_run: MakeRun, call: Call):
    make_run(f"npt/a/{FIRST}")

    with pytest.raises(SetwiseError, match="was given 1 runs and needs two or more"):
        call("runs", "compare", FIRST, FIRST)


@pytest.mark.parametrize(
    ("config", "message"), [("a: [", r"config\.yaml is damaged"), (None, r"config\.yaml cannot be")]
)
def test_compare_names_a_damaged_configuration(make_run: MakeRun, call: Call, config: str | None, message: str):
    make_run(f"npt/a/{FIRST}", config=config)
    make_run(f"npt/a/{SECOND}")

    with pytest.raises(SetwiseError, match=message):
        call("runs", "compare", FIRST, SECOND)


def test_report_writes_the_page_and_prints_its_path(make_run: MakeRun, call: Call):
    run = make_run(f"npt/a/{FIRST}", records=[])

    assert call("report", "latest") == (f"{run.report_path}\n", "")
    assert run.report_path.exists()
    assert json.loads(call("report", FIRST, "--json")[0]) == {"report": str(run.report_path)}


def test_runs_and_report_need_no_torch():
    code = (
        "import setwise.cli.runs, setwise.cli.report, sys; print({'torch', 'numpy', 'matplotlib'} & sys.modules.keys())"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"
