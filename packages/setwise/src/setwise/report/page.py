"""The page of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from setwise.errors import SetwiseError
from setwise.report.plots import PREFIX, figure_svg, plot_curves
from setwise.train.files import read_text, write_atomically
from setwise.train.runs import RunFolder
from setwise.train.summary import format_duration, format_value, has_final, last_metrics, metric_names

STOP_REASONS = {
    "max_steps": "It reached its number of steps.",
    "patience": "It ended early: the monitored metric had stopped improving (patience).",
    "max_time": "It reached its time limit (max_time) and can be resumed.",
    "SIGTERM": "It was asked to stop (SIGTERM) and can be resumed.",
    "SIGINT": "It was interrupted from the keyboard (SIGINT) and can be resumed.",
    "error": "An error ended it.",
}

# Keys of run.json that have a place of their own on the page; all others are listed under "Environment".
_SHOWN_ELSEWHERE = frozenset(
    {"best", "description", "error", "final", "recipe", "sessions", "status", "step", "stop_reason"}
)
# The order and the names of rows under "Environment"; other keys follow, named by themselves.
_LABELS = {
    "device": "Device",
    "precision": "Precision",
    "precision_reason": "Reason for the precision",
    "processes": "Processes",
    "seed": "Seed",
    "num_parameters": "Parameters",
    "elapsed": "Time of training",
    "started": "Started",
    "finished": "Finished",
    "versions": "Versions",
    "git_revision": "Git revision",
    "data_fingerprint": "Data fingerprint (sha256)",
}


@dataclass(frozen=True)
class Html:
    """Markup that is complete and safe to put into the page; everything else is escaped where it is put in."""

    markup: str


def write_report(run: RunFolder) -> Path:
    """Write ``report.html``, and the curves in ``plots/`` with it.

    The page holds its style and pictures, loads nothing and runs no script. It can be written at any time; a run
    that is going on gives a page of what there is.

    Args:
        run: a run folder with at least ``run.json``.

    Returns:
        The path of the page.

    Raises:
        SetwiseError: a file of the run is damaged, or the page cannot be written.
    """
    info, records = run.info(), run.metrics()
    figures = plot_curves(run)
    sections = [
        _metrics_section(records),
        _gallery("Curves", "curves", [_curve(path, figure) for path, figure in figures.items()]),
        _gallery("Plots", "plots", [_picture(path) for path in _plots(run)]),
        _configuration_section(run),
        _environment_section(info),
        _checkpoints_section(run, info),
    ]
    title = str(info.get("recipe") or run.name)
    page = _PAGE.format(
        title=escape(f"{title} · {run.path.name}"),
        style=_style(),
        header=_header(title, run, info).markup,
        sections="\n".join(section.markup for section in sections if section.markup),
    )
    write_atomically(run.report_path, page)
    return run.report_path


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{header}
<main>
{sections}
</main>
</body>
</html>
"""


def _header(title: str, run: RunFolder, info: Mapping[str, Any]) -> Html:
    status, reason = str(info.get("status", "unknown")), info.get("stop_reason")
    ended = STOP_REASONS.get(str(reason), f"Stop reason: {reason}.") if reason else ""
    if status == "running":
        ended = "The run has not ended, or was killed; writing the report again brings it up to date."
    error = _element("pre", info["error"], css="error") if info.get("error") else Html("")
    best, device = info.get("best"), info.get("device")
    facts = {
        "Best": _best_text(best) if isinstance(best, Mapping) and best.get("step") is not None else None,
        "Time": format_duration(info["elapsed"]) if isinstance(info.get("elapsed"), int | float) else None,
        "Parameters": format_value(info["num_parameters"]) if "num_parameters" in info else None,
        "Device": _plain(device.get("name") or device.get("device") if isinstance(device, Mapping) else device),
        "Precision": _plain(info.get("precision")),
    }
    shown = [_element("div", _element("dt", name), _element("dd", value)) for name, value in facts.items() if value]
    badge_css = f"badge {status}" if status in {"running", "done", "stopped", "failed"} else "badge"
    return _element(
        "header",
        _element("p", run.path.name, css="run"),
        _element("h1", title, " ", _element("span", status, css=badge_css)),
        _element("p", info.get("description") or "", css="description"),
        _element("p", ended, css="ended"),
        error,
        _element("dl", *shown, css="facts"),
    )


def _best_text(best: Mapping[str, Any]) -> str:
    return f"{best.get('monitor', '')} {format_value(best.get('value'))} at step {format_value(best.get('step'))}"


def _metrics_section(records: list[dict[str, Any]]) -> Html:
    if not records:
        return _section("Metrics", _element("p", "Nothing has been logged yet."))
    metrics = last_metrics(records)
    splits = list(metrics)
    rows = [
        [name, *(format_value(metrics[split][name]) if name in metrics[split] else "" for split in splits)]
        for name in metric_names(metrics)
    ]
    if has_final(records):
        return _section(
            "Final metrics",
            _element("p", "Measured with the best weights."),
            _table(["", *splits], rows, css="numbers"),
        )
    step = format_value(max(record["step"] for record in records))
    note = f"The last of each split, up to step {step}. There is no final evaluation with the best weights yet."
    return _section("Metrics so far", _element("p", note), _table(["", *splits], rows, css="numbers"))


def _curve(path: Path, figure: Any) -> Html:
    name = path.stem.removeprefix(PREFIX)
    return _element("figure", Html(figure_svg(figure, f"{name} over the steps of training")))


def _plots(run: RunFolder) -> list[Path]:
    return [path for path in sorted(run.plots_path.glob("*.png")) if not path.name.startswith(PREFIX)]


def _picture(path: Path) -> Html:
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise SetwiseError(f"{path} is no PNG file, or was cut short; remove it and write the report again")
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    image = Html(f'<img src="{source}" alt="{escape(path.stem)}">')
    return _element("figure", image, _element("figcaption", path.stem))


def _gallery(title: str, css: str, figures: list[Html]) -> Html:
    return _section(title, _element("div", *figures, css=css)) if figures else Html("")


def _configuration_section(run: RunFolder) -> Html:
    if not run.config_path.exists():
        return Html("")
    lines = read_text(run.config_path).splitlines()
    code = Html("\n".join(_yaml_line(line).markup for line in lines))
    note = Html("To repeat the run: <code>setwise train config.yaml</code> in its folder.")
    return _section("Configuration", _element("p", note), Html(f'<pre class="yaml">{code.markup}</pre>'))


def _yaml_line(line: str) -> Html:
    """Mark comments and keys; enough for the YAML that setwise writes, and harmless on any other text."""
    if line.lstrip().startswith("#"):
        return _element("i", line)
    match = re.fullmatch(r"((?:\s|- )*)([\w./-]+)(:(?:\s.*)?)", line)
    if match is None:
        return Html(escape(line))
    indent, key, rest = match.groups()
    return Html(f"{escape(indent)}{_element('b', key).markup}{escape(rest)}")


def _environment_section(info: Mapping[str, Any]) -> Html:
    shown = info.keys() - _SHOWN_ELSEWHERE
    rows = []
    for key in [*(key for key in _LABELS if key in shown), *sorted(shown - _LABELS.keys())]:
        value = format_duration(info[key]) if key == "elapsed" else _plain(info[key], key)
        if value:
            rows.append([_LABELS.get(key, key.replace("_", " ").capitalize()), value])
    sessions = info.get("sessions")
    if isinstance(sessions, list) and len(sessions) > 1:
        rows.append(["Sessions", f"{len(sessions)} (stopped and resumed)"])
    return _section("Environment", _table([], rows, css="facts-table")) if rows else Html("")


def _plain(value: object, key: str = "") -> str:
    """Return a JSON value as a line for a person."""
    if isinstance(value, Mapping):
        shown = {name: _plain(item, name) for name, item in value.items()}
        return ", ".join(f"{name} {text}" for name, text in shown.items() if text)
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if key == "memory" and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return "" if value is None else format_value(value)


def _checkpoints_section(run: RunFolder, info: Mapping[str, Any]) -> Html:
    best = info.get("best")
    best_step = best.get("step") if isinstance(best, Mapping) else None
    rows = []
    for folder in sorted(run.checkpoints_path.glob("*"), key=lambda folder: folder.name):
        if not folder.name.isdigit():
            continue  # a save that is going on, or was interrupted
        sizes = [file.stat().st_size for file in folder.iterdir()]
        holds = "weights and state of training" if (folder / "optimizer.safetensors").exists() else "weights"
        mark = " (the best)" if int(folder.name) == best_step else ""
        rows.append([format_value(int(folder.name)), _size(sum(sizes)), holds + mark])
    return _section("Checkpoints", _table(["step", "size", "holds"], rows, css="listing")) if rows else Html("")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"


def _section(title: str, *content: Html) -> Html:
    return _element("section", _element("h2", title), *content)


def _table(head: list[str], rows: Iterable[list[str]], *, css: str) -> Html:
    body = [
        _element("tr", Html(f'<th scope="row">{escape(first)}</th>'), *(_element("td", cell) for cell in others))
        for first, *others in rows
    ]
    header = Html("".join(f'<th scope="col">{escape(name)}</th>' for name in head))
    parts = [_element("thead", _element("tr", header))] if head else []
    return _element("table", *parts, _element("tbody", *body), css=css)


def _element(tag: str, *content: object, css: str = "") -> Html:
    """Return an element; content that is not :class:`Html` is escaped, an empty element is left out."""
    inner = "".join(part.markup if isinstance(part, Html) else escape(str(part)) for part in content)
    if not inner and tag in {"p", "dl", "div"}:
        return Html("")
    attribute = f' class="{css}"' if css else ""
    return Html(f"<{tag}{attribute}>{inner}</{tag}>")


def _style() -> str:
    return resources.files("setwise.report").joinpath("report.css").read_text(encoding="utf-8")
