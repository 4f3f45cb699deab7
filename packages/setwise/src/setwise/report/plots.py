"""Curves of a run: one figure a quantity, all splits in it, as PNG files and as SVG for the report."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from setwise.errors import SetwiseError
from setwise.train.files import write_atomically
from setwise.train.runs import RunFolder
from setwise.train.summary import BOOKKEEPING

PREFIX = "curve-"
"""Start of the file names, so that no curve overwrites a plot of a plugin."""

INK, MUTED, GRID = "#1f2933", "#66707c", "#e2e6eb"
TRAIN, VAL, TEST, OTHER = "#2f6fdb", "#d9730d", "#12936f", "#8a4fc7"
THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    TRAIN: "var(--train)",
    VAL: "var(--val)",
    TEST: "var(--test)",
    OTHER: "var(--other)",
}
"""Colours of the PNG files, and the CSS variables that take their place in a page that can be dark."""

_COLOURS = {"train": TRAIN, "val": VAL, "test": TEST}
_MARKERS = {"train": "o", "val": "s", "test": "^"}
_MAX_POINTS = 2000
_LOG_SCALE_FROM = 30.0

Series = dict[str, tuple[np.ndarray, np.ndarray]]
"""Split -> (steps, values); a value that was not finite is NaN and leaves a gap in the curve."""


def plot_curves(run: RunFolder) -> dict[Path, Figure]:
    """Draw loss, metrics and learning rate over the steps and write them to ``plots/curve-<name>.png``.

    Args:
        run: a finished run, or one that is going on. Without records there is nothing to draw.

    Returns:
        The figures by the files they were written to.

    Raises:
        SetwiseError: a file of the run is damaged, or the plots cannot be written.
    """
    best = run.info().get("best")
    all_series = _series_by_name(run.metrics())
    steps = [step for series in all_series.values() for steps, _ in series.values() for step in (steps[0], steps[-1])]
    figures = {}
    for name, series in all_series.items():
        path = run.plots_path / f"{PREFIX}{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.png"
        figures[path] = _draw(name, series, best if isinstance(best, Mapping) else {})
        _set_steps(figures[path].axes[0], min(steps), max(steps))
        _write_png(figures[path], path)
    return figures


def figure_svg(figure: Figure, label: str) -> str:
    """Return a figure as an ``<svg>`` element whose colours are the CSS variables of :data:`THEME`.

    Args:
        figure: as made by :func:`plot_curves`.
        label: what a screen reader says instead of the picture.
    """
    buffer = io.StringIO()
    # Text stays text, and ids are a function of the content, so that equal runs give equal pages.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "setwise"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every figure, and an id must be unique in a page
    for colour, variable in THEME.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def _series_by_name(records: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """Collect what can be drawn: the loss first, the learning rate last, metrics between in order of appearance."""
    points: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}}
    rates: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record.get("final"):
            continue  # measured with the best weights, at no point of the curve
        for name, value in record.items():
            if name != "lr" and name in BOOKKEEPING:
                continue
            if isinstance(value, bool) or not (value is None or isinstance(value, int | float)):
                continue
            by_split = rates if name == "lr" else points.setdefault(name, {})
            by_split.setdefault(record["split"], []).append((record["step"], math.nan if value is None else value))
    points["lr"] = rates
    return {name: _to_arrays(by_split) for name, by_split in points.items() if by_split}


def _to_arrays(by_split: Mapping[str, Sequence[tuple[int, float]]]) -> Series:
    return {split: tuple(np.array(points, dtype=np.float64).T) for split, points in by_split.items()}


def _draw(name: str, series: Series, best: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(5.4, 3.1), facecolor="white")
    # The same margins in all figures: their axes line up in the report.
    axes = figure.add_axes((0.12, 0.155, 0.86, 0.74))
    _style(axes, "learning rate" if name == "lr" else name)
    for split, (steps, values) in series.items():
        steps, values = thin(steps, values)
        few = np.isfinite(values).sum() <= 40
        axes.plot(
            steps,
            values,
            color=_COLOURS.get(split, OTHER),
            linewidth=1.2 if split == "train" else 1.6,
            marker=_MARKERS.get(split, "D") if few else None,
            markersize=3.5,
            label=split,
        )
    if _wants_log_scale(name, series):
        _set_log_scale(axes, series)
    monitored_split, _, monitored = str(best.get("monitor", "")).partition("/")
    if name == monitored and monitored_split in series and isinstance(best.get("step"), int):
        axes.axvline(best["step"], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="best")
    if name != "lr":
        legend = axes.legend(
            frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderpad=0
        )
        for text in legend.get_texts():
            text.set(color=INK, parse_math=False)
    return figure


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel("step", fontsize=9, color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def _set_steps(axes: Axes, first: float, last: float) -> None:
    """Give all figures of a run the same steps, also those of metrics that are measured seldom."""
    margin = max(0.03 * (last - first), 1)
    axes.set_xlim(first - margin, last + margin)


def _wants_log_scale(name: str, series: Series) -> bool:
    """A log scale suits what falls by orders of magnitude; scores between 0 and 1 are read on a linear one."""
    if not any(word in name for word in ("loss", "lr", "perplexity", "norm")):
        return False
    values = _finite_values(series)
    return values.size > 0 and values.min() > 0 and values.max() >= _LOG_SCALE_FROM * values.min()


def _set_log_scale(axes: Axes, series: Series) -> None:
    values = _finite_values(series)
    decades = math.log10(values.max() / values.min())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _finite_values(series: Series) -> np.ndarray:
    values = np.concatenate([values for _, values in series.values()])
    return values[np.isfinite(values)]


def thin(steps: np.ndarray, values: np.ndarray, max_points: int = _MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``max_points`` points: the lowest and the highest of each stretch, so that no spike is lost.

    Args:
        steps: (points,) in the order to be drawn.
        values: (points,); NaN is a gap and loses against any number of its stretch.
        max_points: an even number.
    """
    if len(values) <= max_points:
        return steps, values
    stretches = np.array_split(np.arange(len(values)), max_points // 2)
    low, high = np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), -np.inf, values)
    kept = [
        stretch[index] for stretch in stretches for index in sorted((low[stretch].argmin(), high[stretch].argmax()))
    ]
    return steps[kept], values[kept]


def _write_png(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise SetwiseError(f"cannot make the folder {path.parent} ({error.strerror}); check its permissions") from error
    write_atomically(path, buffer.getvalue())
