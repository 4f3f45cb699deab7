"""``setwise runs``: a table of runs, and a comparison of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from setwise.cli.output import OutputParameter
from setwise.document import Document
from setwise.errors import SetwiseError
from setwise.train.files import json_text, read_text
from setwise.train.runs import RunFolder, find_runs, open_run
from setwise.train.summary import format_duration, format_value, last_metrics

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
    output.document(found)
    if not output.json:
        output.table([_row(run) for run in found])
    if not found:
        output.note(f"no runs{f' of {recipe}' if recipe else ''} below {folder}; setwise train makes one")
    for run in found:
        if "problem" in run:
            output.note(run["problem"])


@runs.command
def compare(*given: str, folder: RunsOption = Path("runs"), output: OutputParameter) -> None:
    """Show where the configurations of runs differ, and their metrics side by side.

    Args:
        given: folders or ids of two runs or more.
        folder: where runs are.
    """
    compared = list(dict.fromkeys(open_run(run, folder) for run in given))
    if len(compared) < 2:
        raise SetwiseError(f"compare was given {len(compared)} runs and needs two or more; see: setwise runs")
    configs = _side_by_side([_flat_config(run) for run in compared])
    differing = {key: values for key, values in configs.items() if len({json_text(value) for value in values}) > 1}
    metrics = _side_by_side([_flat_metrics(run) for run in compared])
    output.document({"runs": [run.name for run in compared], "config": differing, "metrics": metrics})
    if not output.json:
        names = [run.path.name for run in compared]
        output.table([_labelled("configuration", key, names, values) for key, values in differing.items()])
        output.line("" if differing else "the configurations are equal\n")
        output.table([_labelled("metric", key, names, values) for key, values in metrics.items()])


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


def _row(run: Mapping[str, Any]) -> dict[str, str]:
    best, status = run.get("best") or {}, str(run.get("status", "unknown"))
    return {
        "run": run["name"],
        "status": f"{status}: {run['stop_reason']}" if status == "stopped" else status,
        "step": format_value(run.get("step")),
        "best": f"{best.get('monitor', '')} {format_value(best['value'])}" if best.get("value") is not None else "-",
        "time": format_duration(run.get("elapsed")),
    }


def _flat_config(run: RunFolder) -> dict[str, Any]:
    document = Document.parse(read_text(run.config_path))
    if document.problems:
        raise SetwiseError(f"{run.config_path} is damaged: {document.problems[0].message}")
    return _flatten(document.data, ".")


def _flat_metrics(run: RunFolder) -> dict[str, Any]:
    return _flatten(last_metrics(run.metrics()), "/")


def _flatten(section: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        path = f"{prefix}{key}"
        flat |= _flatten(value, separator, f"{path}{separator}") if isinstance(value, dict) else {path: value}
    return flat


def _side_by_side(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return for each key of any column the values of all columns, None where it is missing."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key) for column in columns] for key in keys}


def _labelled(title: str, key: str, names: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    return {title: key, **dict(zip(names, map(_cell, values), strict=True))}


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return format_value(value)
    return value if isinstance(value, str) else json_text(value)
