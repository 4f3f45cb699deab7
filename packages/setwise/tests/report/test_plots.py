from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from setwise.errors import SetwiseError
from setwise.report.plots import THEME, figure_svg, plot_curves, thin
from setwise.train.runs import RunFolder

MakeRun = Callable[..., RunFolder]


def curves(run: RunFolder) -> dict[str, Axes]:
    """The axes of each figure by the stem of its file."""
    return {path.stem: figure.axes[0] for path, figure in plot_curves(run).items()}


def points(axes: Axes, label: str) -> list[tuple[float, float]]:
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))


def train(step: int, loss: float | None, **values: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "time": 0.5, "split": "train", "loss": loss, **values}


def test_one_file_a_quantity_with_the_loss_first_and_the_rate_last(make_run: MakeRun):
    run = make_run()

    files = list(plot_curves(run))

    assert [path.name for path in files] == ["curve-loss.png", "curve-accuracy.png", "curve-lr.png"]
    assert sorted(files) == sorted(run.plots_path.iterdir())
    for path in files:
        assert imread(path).shape == (496, 864, 4)


def test_curves_hold_the_records_of_their_split_without_the_final_ones(make_run: MakeRun):
    axes = curves(make_run())

    assert points(axes["curve-loss"], "train") == [(7, 0.9), (13, 0.4)]
    assert points(axes["curve-loss"], "val") == [(7, 0.8), (13, 0.3)]
    assert points(axes["curve-accuracy"], "val") == [(7, 0.5), (13, 0.75)]
    assert points(axes["curve-lr"], "train") == [(7, 0.001), (13, 0.001)]
    assert [line.get_label() for line in axes["curve-loss"].get_lines()] == ["train", "val", "best"]


def test_value_that_was_not_finite_is_a_gap(make_run: MakeRun):
    axes = curves(make_run(records=[train(3, 0.5), train(5, None), train(7, 0.25)]))

    (first, gap, last) = points(axes["curve-loss"], "train")
    assert (first, last) == ((3, 0.5), (7, 0.25))
    assert gap[0] == 5
    assert math.isnan(gap[1])


def test_values_that_are_no_numbers_are_not_drawn(make_run: MakeRun):
    run = make_run(records=[train(3, 0.5, note="hello", flag=True, shape=[3, 5])])

    assert list(curves(run)) == ["curve-loss"]


def test_a_run_of_nulls_is_drawn_empty(make_run: MakeRun):
    axes = curves(make_run(records=[train(3, None), train(5, None)]))

    assert all(math.isnan(value) for _, value in points(axes["curve-loss"], "train"))


def test_one_record_is_a_point_between_whole_steps(make_run: MakeRun):
    axes = curves(make_run(records=[train(11, 0.5)]))["curve-loss"]

    assert points(axes, "train") == [(11, 0.5)]
    assert axes.get_lines()[0].get_marker() == "o"
    assert axes.get_xlim() == (10, 12)


def test_all_figures_of_a_run_span_the_same_steps(make_run: MakeRun):
    records = [train(0, 0.5), {"step": 500, "split": "val", "accuracy": 0.5}, train(1000, 0.25)]

    axes = curves(make_run(records=records))

    assert {figure.get_xlim() for figure in axes.values()} == {(-30, 1030)}


def test_no_records_write_nothing(make_run: MakeRun):
    run = make_run(records=[])

    assert plot_curves(run) == {}
    assert not run.plots_path.exists()


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("loss", [10.0, 0.1], "log"),
        ("masked_loss", [1.0, 0.001], "log"),
        ("loss", [1.0, 0.5], "linear"),
        ("loss", [10.0, 0.0], "linear"),
        ("loss", [10.0, -0.1], "linear"),
        ("accuracy", [0.01, 0.99], "linear"),
    ],
)
def test_log_scale_is_for_positive_losses_over_orders_of_magnitude(
    make_run: MakeRun, name: str, values: list[float], scale: str
):
    records = [{"step": step, "split": "val", name: value} for step, value in enumerate(values)]

    assert curves(make_run(records=records))[f"curve-{name}"].get_yscale() == scale


def test_best_step_is_marked_on_the_monitored_metric_only(make_run: MakeRun, run_info: dict[str, Any]):
    run = make_run(info={**run_info, "best": {"step": 7, "value": 0.5, "monitor": "val/accuracy"}})
    axes = curves(run)

    assert [x for x, _ in points(axes["curve-accuracy"], "best")] == [7, 7]
    assert "best" not in [line.get_label() for line in axes["curve-loss"].get_lines()]


@pytest.mark.parametrize("best", [None, {}, {"step": None, "value": None, "monitor": "val/loss"}, "none"])
def test_run_without_a_best_step_has_no_mark(make_run: MakeRun, run_info: dict[str, Any], best: object):
    axes = curves(make_run(info={**run_info, "best": best}))

    assert [line.get_label() for line in axes["curve-loss"].get_lines()] == ["train", "val"]


def test_names_are_drawn_as_they_are_and_make_safe_file_names(make_run: MakeRun):
    records = [{"step": 3, "split": r"$\val{$", r"a $\frac{/$b": 0.5}]
    run = make_run(records=records)

    (path, figure), *_ = plot_curves(run).items()

    assert path.name == "curve-a-frac-b.png"
    svg = figure_svg(figure, "label")
    assert r"a $\frac{/$b" in svg
    assert r"$\val{$" in svg


def test_damaged_metrics_are_named(make_run: MakeRun):
    run = make_run()
    run.metrics_path.write_text("{\n{}\n")

    with pytest.raises(SetwiseError, match=r"metrics\.jsonl:1 is damaged"):
        plot_curves(run)


def test_plots_folder_that_cannot_be_made_is_named(make_run: MakeRun):
    run = make_run()
    run.plots_path.write_text("a file")

    with pytest.raises(SetwiseError, match="plots"):
        plot_curves(run)


def test_thin_keeps_spikes_and_order():
    steps = np.arange(1009.0)
    values = np.sin(steps / 50)
    values[503], values[701] = 31.0, -31.0

    thin_steps, thin_values = thin(steps, values, max_points=20)

    assert len(thin_steps) == 20
    assert (np.diff(thin_steps) >= 0).all()
    np.testing.assert_array_equal(thin_values, values[thin_steps.astype(int)])
    assert (thin_values.max(), thin_values.min()) == (31.0, -31.0)


def test_thin_prefers_numbers_to_gaps():
    steps, values = np.arange(8.0), np.array([np.nan, 1, 2, np.nan, np.nan, np.nan, np.nan, np.nan])

    thin_steps, thin_values = thin(steps, values, max_points=4)

    np.testing.assert_array_equal(thin_steps[:2], [1, 2])
    assert np.isnan(thin_values[2:]).all()


def test_thin_leaves_short_curves_alone():
    steps = np.arange(7.0)

    assert thin(steps, steps, max_points=8)[0] is steps


def test_svg_takes_its_colours_from_the_page_and_names_itself(make_run: MakeRun):
    figure = next(iter(plot_curves(make_run()).values()))

    svg = figure_svg(figure, 'loss "over" steps')

    assert svg.startswith('<svg role="img" aria-label="loss &quot;over&quot; steps"')
    assert not [colour for colour in THEME if colour in svg]
    assert {"var(--train)", "var(--val)", "var(--ink)"} <= {v for v in THEME.values() if v in svg}


def test_svg_is_a_function_of_the_figure(make_run: MakeRun):
    records = [train(3, 0.5), train(5, 0.25)]
    first, second = (
        next(iter(plot_curves(make_run(name, records=records)).values())) for name in ("npt/a/1", "npt/a/2")
    )

    assert isinstance(first, Figure)
    assert figure_svg(first, "loss") == figure_svg(second, "loss")


def test_drawing_leaves_the_settings_of_matplotlib_alone(make_run: MakeRun):
    before = dict(mpl.rcParams)

    for figure in plot_curves(make_run()).values():
        figure_svg(figure, "label")

    assert dict(mpl.rcParams) == before


def test_report_needs_neither_pyplot_nor_torch():
    code = "import setwise.report, sys; print({'matplotlib.pyplot', 'torch'} & sys.modules.keys())"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"
