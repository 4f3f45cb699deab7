from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from setwise.train.progress import Mode, ProgressCallback, metrics_table
from setwise.train.trainer import Trainer

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Screen(Console):
    """A terminal, or a pipe, that remembers what was written to it."""

    def __init__(self, *, terminal: bool, width: int = 110, **environment: str) -> None:
        self.written = io.StringIO()
        super().__init__(
            file=self.written,
            force_terminal=terminal,
            width=width,
            height=25,
            color_system=None,
            legacy_windows=False,
            _environ=environment,
        )

    @property
    def text(self) -> str:
        return self.written.getvalue()

    @property
    def last_bar(self) -> str:
        """The bar as drawn last, without control codes."""
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", self.text).split("\n")
        return [line for line in lines if line.startswith("step")][-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trainer_at(step: int = 0, *, max_steps: int = 3000, is_main: bool = True) -> Any:
    return SimpleNamespace(
        engine=SimpleNamespace(is_main=is_main), state=SimpleNamespace(step=step), max_steps=max_steps
    )


def train(step: int, loss: float | None = 0.5) -> dict[str, Any]:
    return {"step": step, "split": "train", "loss": loss, "lr": 0.001, "steps_per_second": 12.34}


def evaluation(step: int, split: str = "val", **values: Any) -> dict[str, Any]:
    return {"step": step, "split": split, "loss": 0.25, **values}


def test_json_mode_prints_every_record_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    callback, trainer = ProgressCallback(mode="json"), trainer_at()
    records = [train(1), train(2, float("nan")), evaluation(2, accuracy=0.75)]

    callback.on_fit_start(trainer)
    for record in records:
        callback.on_step_end(trainer)
        callback.on_log(trainer, record)
    callback.on_fit_end(trainer, "max_steps")
    callback.on_log(trainer, evaluation(2, "test", final=True))

    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        records[0],
        {**records[1], "loss": None},
        records[2],
        evaluation(2, "test", final=True),
    ]
    assert err == ""


@pytest.mark.parametrize(("mode", "is_main"), [("quiet", True), *((m, False) for m in ("bar", "lines", "json"))])
def test_quiet_mode_and_other_processes_show_nothing(mode: Mode, is_main: bool):
    screen, trainer = Screen(terminal=True), trainer_at(is_main=is_main)
    callback = ProgressCallback(mode=mode, console=screen)

    callback.on_fit_start(trainer)
    callback.on_step_end(trainer)
    callback.on_log(trainer, train(1))
    callback.on_fit_end(trainer, "max_steps")

    assert screen.text == ""


@pytest.mark.parametrize(
    ("terminal", "environment", "drawn"),
    [(True, {}, True), (False, {}, False), (True, {"TERM": "dumb"}, False)],
)
def test_a_bar_is_drawn_only_where_lines_can_be_redrawn(terminal: bool, environment: dict[str, str], drawn: bool):
    screen, trainer = Screen(terminal=terminal, **environment), trainer_at()
    callback = ProgressCallback(console=screen)

    callback.on_fit_start(trainer)
    callback.on_fit_end(trainer, "max_steps")

    assert screen.text.startswith(HIDE_CURSOR) == drawn


def test_line_says_place_values_rate_and_time_left(clock: Clock):
    screen, trainer = Screen(terminal=False), trainer_at(step=100, max_steps=3000)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)

    clock.now += 20.0  # for the 200 steps since the resume, so the other 2700 take 270 seconds
    callback.on_log(trainer, train(300))
    callback.on_log(trainer, evaluation(300, accuracy=0.75, auroc=None))

    assert screen.text.splitlines() == [
        "step  300/3000  train  loss 0.5        lr 0.001  12.3 steps/s  0:04:30 left",
        "step  300/3000  val    loss 0.25       accuracy 0.75       auroc -",
    ]


def test_lines_are_at_most_one_a_second_and_split(clock: Clock):
    screen, trainer = Screen(terminal=False), trainer_at(max_steps=100)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)

    for step in range(1, 12):
        clock.now += 0.25
        callback.on_log(trainer, train(step))
        callback.on_log(trainer, evaluation(step))

    steps = {
        split: [int(s) for s in re.findall(rf"step +(\d+)/100  {split}", screen.text)] for split in ("train", "val")
    }
    assert steps == {"train": [1, 5, 9], "val": [1, 5, 9]}


def test_lines_become_rarer_in_a_long_run_but_not_rarer_than_one_a_minute(clock: Clock):
    screen, trainer = Screen(terminal=False), trainer_at(max_steps=10**6)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)

    clock.now += 36_000
    for step in range(1, 13):
        clock.now += 10
        callback.on_log(trainer, train(step))

    assert [int(step) for step in re.findall(r"step +(\d+)/", screen.text)] == [1, 7]


def test_last_step_is_always_shown_and_final_metrics_are_left_to_the_table(clock: Clock):
    screen, trainer = Screen(terminal=False), trainer_at(max_steps=3)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)

    for step in (1, 2, 3):
        callback.on_log(trainer, train(step))
    callback.on_fit_end(trainer, "max_steps")
    callback.on_log(trainer, evaluation(3, final=True))

    assert re.findall(r"step (\d)/3  (\w+)", screen.text) == [("1", "train"), ("3", "train")]


def test_lines_are_plain_text_and_never_folded(clock: Clock):
    screen, trainer = Screen(terminal=False, width=20), trainer_at()
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)
    callback.on_log(trainer, evaluation(7, **{f"[red]metric_{n}": 0.5 for n in range(7)}))

    (line,) = screen.text.splitlines()
    assert "[red]metric_6 0.5" in line
    assert "\x1b" not in line


def test_bar_starts_where_the_run_was_resumed(clock: Clock):
    screen, trainer = Screen(terminal=True), trainer_at(step=1234)
    callback = ProgressCallback(console=screen, clock=clock)

    callback.on_fit_start(trainer)
    started = screen.last_bar
    callback.on_fit_end(trainer, "SIGTERM")

    assert started.startswith("step 1,234/3,000")


def test_bar_shows_loss_rate_time_left_and_the_latest_evaluations(clock: Clock):
    screen, trainer = Screen(terminal=True), trainer_at(step=0, max_steps=1000)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)
    for step in (50, 100):
        clock.now += 10.0
        trainer.state.step = step
        callback.on_log(trainer, train(step, loss=50 / step))
        callback.on_log(trainer, evaluation(step, accuracy=step / 200))
        callback.on_log(trainer, evaluation(step, "test", accuracy=0.3))
        callback.on_step_end(trainer)

    assert re.search(r"step   100/1,000 .* loss 0.5 +5\.0 steps/s 0:03:00 left", screen.last_bar)
    below = screen.text.rpartition("left")[2]
    assert re.search(r"val   loss 0\.25 +accuracy 0\.5 +\(step 100\)", below)
    assert re.search(r"test  loss 0\.25 +accuracy 0\.3 +\(step 100\)", below)
    callback.on_fit_end(trainer, "max_steps")


def test_bar_keeps_its_width_from_the_first_to_the_last_step(clock: Clock):
    screen, trainer = Screen(terminal=True), trainer_at(max_steps=12345)
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)
    bars = []
    for step, loss in ((0, None), (7, 123456.0), (1007, 0.1234), (12345, 1.2e-5)):
        clock.now += 1.0
        trainer.state.step = step
        callback.on_log(trainer, train(step, loss))
        callback.on_step_end(trainer)
        bars.append(screen.last_bar)
    callback.on_fit_end(trainer, "max_steps")

    assert {len(bar) for bar in bars} == {110}
    assert len({(bar.index("/12,345"), bar.index(" loss "), bar.index(" steps/s")) for bar in bars}) == 1


def test_bar_is_redrawn_at_most_ten_times_a_second(clock: Clock):
    screen, trainer = Screen(terminal=True), trainer_at()
    callback = ProgressCallback(console=screen, clock=clock)
    callback.on_fit_start(trainer)
    drawn = []
    for step in range(1, 21):
        clock.now += 0.03125  # a power of two: sums are exact
        trainer.state.step = step
        before = len(screen.text)
        callback.on_step_end(trainer)
        drawn.append(len(screen.text) > before)
    callback.on_fit_end(trainer, "max_steps")

    assert [step for step, redrawn in enumerate(drawn, 1) if redrawn] == [4, 8, 12, 16, 20]


@pytest.mark.parametrize("reason", ["max_steps", "SIGTERM", "error"])
def test_terminal_is_given_back_however_training_ends(reason: str):
    screen, trainer = Screen(terminal=True), trainer_at()
    callback = ProgressCallback(console=screen)
    before = sys.stdout, sys.stderr

    callback.on_fit_start(trainer)
    assert screen.text.startswith(HIDE_CURSOR)
    trainer.state.step = 17
    callback.on_fit_end(trainer, reason)
    written = screen.text
    callback.on_step_end(trainer)
    callback.on_log(trainer, train(18))

    assert screen.last_bar.startswith("step    17/3,000")
    assert written.endswith(SHOW_CURSOR)
    assert screen.text == written
    assert (sys.stdout, sys.stderr) == before


def test_prints_and_log_lines_appear_above_the_bar_and_handlers_get_their_streams_back():
    screen, trainer = Screen(terminal=True), trainer_at()
    callback = ProgressCallback(console=screen)
    logger, stream = logging.getLogger("setwise.test_progress"), sys.stderr
    handler = logging.StreamHandler(stream)
    elsewhere = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.addHandler(elsewhere)
    try:
        callback.on_fit_start(trainer)
        logger.warning("a warning from somewhere")
        print("a printed line")
        callback.on_fit_end(trainer, "max_steps")
    finally:
        logger.removeHandler(handler)
        logger.removeHandler(elsewhere)

    above, _, last = screen.text.rpartition("step ")
    assert "a warning from somewhere\n" in above
    assert "a printed line\n" in above
    assert "3,000" in last
    assert handler.stream is stream
    assert elsewhere.stream.getvalue() == "a warning from somewhere\n"


def test_trainer_feeds_it_what_it_writes_to_the_metrics_file(
    make_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
):
    trainer = make_trainer(callbacks=[ProgressCallback(mode="json")])

    trainer.fit()
    trainer.finish()

    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records == trainer.run.metrics()
    assert sum(record.get("final", False) for record in records) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_trainer_drives_bar_and_lines_to_the_last_step(make_trainer: Callable[..., Trainer], terminal: bool):
    screen = Screen(terminal=terminal)
    trainer = make_trainer(callbacks=[ProgressCallback(console=screen)])

    trainer.fit()
    trainer.finish()

    assert "11/11" in screen.text
    assert "mae" in screen.text


def rendered(records: list[dict[str, Any]]) -> list[str]:
    screen = Screen(terminal=False)
    screen.print(metrics_table(records))
    return [line.rstrip() for line in screen.text.splitlines()]


def test_table_has_a_column_for_each_split_of_the_final_metrics():
    records = [
        train(7),
        evaluation(7, accuracy=0.75),
        evaluation(7, accuracy=0.765432, final=True),
        evaluation(7, "test", auroc=None, final=True),
    ]

    assert rendered(records) == [
        "Final metrics      val   test",
        "loss              0.25   0.25",
        "accuracy        0.7654",
        "auroc                       -",
    ]


def test_table_of_a_stopped_run_says_that_more_is_to_come():
    assert rendered([train(7), evaluation(7)]) == [
        "Metrics so far   train    val",
        "loss               0.5   0.25",
    ]


def test_table_takes_names_as_they_are():
    assert rendered([evaluation(7, **{"[bold]odd": 1.0, "final": True})])[-1].split() == ["[bold]odd", "1"]
