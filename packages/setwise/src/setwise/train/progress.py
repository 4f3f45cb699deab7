"""What a run shows while it trains: a bar on a terminal, plain lines in a pipe, or JSON lines for a program."""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from setwise.train.callbacks import AbstractCallback
from setwise.train.files import json_text
from setwise.train.summary import (
    BOOKKEEPING,
    format_duration,
    format_value,
    has_final,
    last_metrics,
    metric_names,
)

if TYPE_CHECKING:
    from setwise.train.trainer import Trainer

Mode = Literal["auto", "bar", "lines", "json", "quiet"]


class ProgressCallback(AbstractCallback):
    """Shows a run on the main process.

    Args:
        mode: ``"bar"`` draws a bar with loss, rate and time left; ``"lines"`` prints a line for a log record, seldom
            enough that a long run's output stays readable; ``"json"`` prints every record as a line of JSON;
            ``"quiet"`` shows nothing. ``"auto"`` is a bar on a terminal and lines elsewhere.
        console: where to; standard output when None.
        clock: seconds that only grow; they space out refreshes and lines.

    Example:
        >>> callback = ProgressCallback(mode="json")
    """

    def __init__(
        self,
        *,
        mode: Mode = "auto",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode: Mode = mode
        self._console = console or Console()
        self._clock = clock
        self._display: _Display | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        if trainer.engine.is_main and self._mode != "quiet":
            self._display = self._new_display(trainer)

    def on_step_end(self, trainer: Trainer) -> None:
        if self._display is not None:
            self._display.step(trainer)

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if self._display is not None:
            self._display.log(record)

    def on_fit_end(self, trainer: Trainer, reason: str) -> None:
        if self._display is not None:
            self._display.stop(trainer)

    def _new_display(self, trainer: Trainer) -> _Display:
        if self._mode == "json":
            return _JsonLines(self._console)
        can_redraw = self._console.is_terminal and not self._console.is_dumb_terminal
        if self._mode == "bar" or (self._mode == "auto" and can_redraw):
            return _Bar(trainer, self._console, self._clock)
        return _Lines(trainer, self._console, self._clock)


def metrics_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """Return the metrics of a run as a table: names down, splits across.

    Without colours it is plain aligned text, so it can be printed to a pipe as well.

    Args:
        records: lines of ``metrics.jsonl``. Without final ones the last of each split are shown.
    """
    records = list(records)
    metrics = last_metrics(records)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("Final metrics" if has_final(records) else "Metrics so far")
    for split in metrics:
        table.add_column(Text(split), justify="right")
    for name in metric_names(metrics):
        cells = [format_value(values[name]) if name in values else "" for values in metrics.values()]
        table.add_row(Text(name), *map(Text, cells))
    return table


class _Display(ABC):
    """One way to show a run, from its construction at the start of training on."""

    def step(self, trainer: Trainer) -> None:  # noqa: B027  # lines are about records only
        """One step is done. Runs in the hot path."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """A record was logged; the final ones come after :meth:`stop`."""

    def stop(self, trainer: Trainer) -> None:  # noqa: B027  # lines have nothing to take down
        """Training has ended, well or not."""


class _JsonLines(_Display):
    """Every record, as it is in ``metrics.jsonl``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def log(self, record: Mapping[str, Any]) -> None:
        print(json_text(dict(record)), file=self._console.file, flush=True)


class _Lines(_Display):
    """A line for a record, but for each split at most one a second at first and one a minute in a long run."""

    def __init__(self, trainer: Trainer, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._max_steps, self._first_step = trainer.max_steps, trainer.state.step
        self._started = clock()
        self._last_shown: dict[str, float] = {}

    def log(self, record: Mapping[str, Any]) -> None:
        if record.get("final"):
            return  # the table after the run shows them
        now, split, step = self._clock(), record["split"], record["step"]
        elapsed = now - self._started
        interval = min(max(elapsed / 50, 1.0), 60.0)
        if split in self._last_shown and now - self._last_shown[split] < interval and step < self._max_steps:
            return
        self._last_shown[split] = now
        line = f"step {step:>{len(str(self._max_steps))}}/{self._max_steps}  {split:<5}  {_values(record)}"
        if split == "train":
            left = elapsed / max(step - self._first_step, 1) * (self._max_steps - step)
            line += f"  {record['steps_per_second']:.1f} steps/s  {format_duration(left)} left"
        print(line, file=self._console.file, flush=True)


class _Bar(_Display):
    """A bar, and below it a line for each evaluated split."""

    # Redrawn from the training loop and not from a thread: a thread could hold the terminal's lock at the moment a
    # data worker is forked, which would then wait for it for ever.
    _SECONDS_BETWEEN_REDRAWS = 0.1

    def __init__(self, trainer: Trainer, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._evaluations: dict[str, Text] = {}
        self._progress = Progress(
            TextColumn("step"),
            _StepColumn(),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            TextColumn("loss {task.fields[loss]:<9}"),
            _RateColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            auto_refresh=False,
            expand=True,
            get_time=clock,
        )
        self._task = self._progress.add_task(
            "train", total=trainer.max_steps, completed=trainer.state.step, loss=format_value(None)
        )
        self._live = Live(get_renderable=self._render, console=console, auto_refresh=False)
        streams = sys.stdout, sys.stderr
        self._live.start(refresh=True)
        self._lifted = _lift_logging(*streams)
        self._drawn = clock()

    def step(self, trainer: Trainer) -> None:
        now = self._clock()
        if now - self._drawn >= self._SECONDS_BETWEEN_REDRAWS:
            self._drawn = now
            self._progress.update(self._task, completed=trainer.state.step)
            self._live.refresh()

    def log(self, record: Mapping[str, Any]) -> None:
        if record["split"] == "train":
            self._progress.update(self._task, loss=format_value(record["loss"]))
        elif not record.get("final"):
            text = Text(f"{record['split']:<5} {_values(record)}", no_wrap=True, overflow="ellipsis")
            self._evaluations[record["split"]] = text.append(f"  (step {record['step']:,})", style="dim")

    def stop(self, trainer: Trainer) -> None:
        self._progress.update(self._task, completed=trainer.state.step)
        for handler, stream in self._lifted:
            handler.setStream(stream)
        self._live.stop()

    def _render(self) -> Group:
        return Group(self._progress, *self._evaluations.values())


def _lift_logging(stdout: Any, stderr: Any) -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Let log handlers that hold the terminal's streams write above the bar, as ``print`` does by now.

    Args:
        stdout: standard output as it was before the bar took it over, and
        stderr: standard error.

    Returns:
        The handlers with the streams to give back to them.
    """
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.root.manager.loggerDict))]
    lifted = []
    for handler in dict.fromkeys(handler for logger in loggers for handler in logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream in (stdout, stderr):
            lifted.append((handler, handler.stream))
            handler.setStream(sys.stdout if handler.stream is stdout else sys.stderr)
    return lifted


class _StepColumn(ProgressColumn):
    """``   120/3,000``, as wide at the first step as at the last."""

    def render(self, task: Task) -> Text:
        total = f"{int(task.total or 0):,}"
        return Text(f"{int(task.completed):>{len(total)},}/{total}")


class _RateColumn(ProgressColumn):
    """Steps per second, evaluations included: what the time left is reckoned from."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{'-' if speed is None else f'{speed:.1f}':>7} steps/s")


def _values(record: Mapping[str, Any]) -> str:
    """Return loss, metrics and learning rate as text of a nearly constant width."""
    names = [name for name in record if name not in BOOKKEEPING or name == "lr"]
    return "  ".join(f"{name} {format_value(record[name]):<9}" for name in names).rstrip()
