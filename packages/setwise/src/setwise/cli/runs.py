"""``setwise runs``: a table of runs, and a comparison of some of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from setwise.cli.output import OutputParameter
from setwise.document import Document
from setwise.errors import SetwiseError
from setwise.train.files import json_text, read_text
from setwise.train.runs import RunFolder, find_runs, open_run
from setwise.train.summary import format_duration, format_value, last_metrics, metric_names

RunsOption = Annotated[Path, Parameter(name="--runs")]

runs = App(name="runs", help="List the runs of a folder, oldest first, or compare some of them.")


@runs.default
def list_runs(*, recipe: str | None = None, folder: RunsOption = Path("runs"), output: OutputParameter) -> None:
    """List the runs of a folder, oldest first.

    Args:
        recipe: only runs of this recipe: "plugin/recipe", or one half of it.
        folder: where runs are.
    """
    found = [_describe(run) for run in find_runs(folder)]
    if recipe is not None:
        found = [run for run in found if recipe == run["recipe"] or recipe in str(run["recipe"]).split("/")]
    if output.json:
        print(json_text(found, indent=2))
    elif found:
        _print(_runs_table(found))
        for run in found:
            if "problem" in run:
                print(run["problem"], file=sys.stderr)
    else:
        print(f"no runs{f' of {recipe}' if recipe else ''} below {folder}; setwise train makes one")


@runs.command
def compare(*given: str, folder: RunsOption = Path("runs"), output: OutputParameter) -> None:
    """Show where the configurations of runs differ, and their metrics side by side.

    Args:
        given: folders or ids of two runs or more.
        folder: where runs are.
    """
    if len(given) < 2:
        raise SetwiseError(f"compare was given {len(given)} runs and needs two or more; see: setwise runs")
    compared = [open_run(run, folder) for run in given]
    configs = [_flat_config(run) for run in compared]
    metrics = [_flat_metrics(run) for run in compared]
    differing = [key for key in _union(configs) if len({json_text(config.get(key)) for config in configs}) > 1]
    if output.json:
        config_rows = {key: [config.get(key) for config in configs] for key in differing}
        metric_rows = {key: [values.get(key) for values in metrics] for key in _union(metrics)}
        print(
            json_text({"runs": [run.name for run in compared], "config": config_rows, "metrics": metric_rows}, indent=2)
        )
        return
    table = _table("", *(run.path.name for run in compared))
    if differing:
        _add_rows(table, "Configuration", differing, configs)
    else:
        table.add_row(Text("The configurations are equal", style="bold"))
    table.add_row()
    _add_rows(table, "Metrics", _union(metrics), metrics)
    _print(table)


def _describe(run: RunFolder) -> dict[str, Any]:
    """Return what the table and its JSON say of a run; a damaged one is told by its status and ``problem``."""
    described: dict[str, Any] = {"name": run.name, "path": str(run.path), "recipe": "/".join(run.path.parts[-3:-1])}
    try:
        info = run.info()
        last = run.metrics()[-1:] if info.get("status") == "running" else []
    except SetwiseError as error:
        return {**described, "status": "damaged", "problem": str(error)}
    keys = ("recipe", "status", "stop_reason", "started", "step", "best", "elapsed", "final")
    described |= {key: info[key] for key in keys if key in info}
    if last:
        described |= {"step": last[0]["step"], "elapsed": last[0].get("time")}
    return described


def _runs_table(described: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Run", "Status", "Step", "Best", "Time")
    for column in table.columns[2:]:
        column.justify = "right"
    for run in described:
        best = run.get("best") or {}
        shown = f"{best.get('monitor', '')} {format_value(best['value'])}" if best.get("value") is not None else "-"
        status = str(run.get("status", "unknown")) + (
            f": {run['stop_reason']}" if run.get("status") == "stopped" else ""
        )
        cells = (status, format_value(run.get("step")), shown, format_duration(run.get("elapsed")))
        table.add_row(Text(run["name"], overflow="fold"), *map(Text, cells))
    return table


def _flat_config(run: RunFolder) -> dict[str, Any]:
    document = Document.parse(read_text(run.config_path))
    if document.problems:
        raise SetwiseError(f"{run.config_path} is damaged: {document.problems[0].message}")
    return _flatten(document.data)


def _flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _flat_metrics(run: RunFolder) -> dict[str, Any]:
    metrics = last_metrics(run.metrics())
    return {
        f"{split}/{name}": values[name] for split, values in metrics.items() for name in metric_names({split: values})
    }


def _union(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _add_rows(table: Table, title: str, keys: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> None:
    table.add_row(Text(title, style="bold"))
    for key in keys:
        cells = [_cell(column[key]) if key in column else "" for column in columns]
        table.add_row(Text(f"  {key}"), *map(Text, cells))


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else format_value(value) if isinstance(value, float) else json_text(value)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in names:
        table.add_column(Text(name))
    return table


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width to fold lines at, and the table takes what it needs
    console.print(table)
