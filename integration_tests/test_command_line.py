"""The command line as a newcomer uses it, in an empty folder: train, evaluate, predict, stop, resume, report."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

Run = Callable[..., subprocess.CompletedProcess[str]]

SHORT = ("trainer.max_steps=5", "trainer.device=cpu")


def only_run(folder: Path) -> Path:
    [info] = folder.glob("runs/*/*/*/run.json")
    return info.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture(scope="module")
def trained(setwise_in: Callable[[Path], Run], folder: Path) -> Path:
    """The run folder of a short training of the README's recipe."""
    result = setwise_in(folder)("train", "npt/breast-cancer", *SHORT)
    assert result.returncode == 0, result.stderr
    return only_run(folder)


@pytest.fixture(scope="module")
def setwise(setwise_in: Callable[[Path], Run], folder: Path) -> Run:
    return setwise_in(folder)


def test_training_leaves_a_complete_run_folder(trained: Path):
    assert trained.parent.parts[-2:] == ("npt", "breast-cancer")
    assert {"config.yaml", "run.json", "metrics.jsonl", "checkpoints", "report.html"} <= {
        path.name for path in trained.iterdir()
    }
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {record["split"] for record in records if record.get("final")} == {"val", "test"}


def test_report_needs_nothing_from_elsewhere(trained: Path):
    page = (trained / "report.html").read_text(encoding="utf-8")

    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page) == []


def test_evaluate_repeats_the_final_metrics(setwise: Run, trained: Path):
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    final = {record["split"]: record["loss"] for record in records if record.get("final")}

    result = setwise("evaluate", "latest", "--json")

    assert result.returncode == 0, result.stderr
    evaluated = {split: values["loss"] for split, values in json.loads(result.stdout).items()}
    assert {split: evaluated[split] for split in final} == final


def test_predict_answers_every_row_of_a_table(setwise: Run, trained: Path, folder: Path):
    table, _ = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = table.head(7)
    frame.to_csv(folder / "patients.csv", index=False)

    result = setwise("predict", str(trained), "--input", "patients.csv", "--output", "answers.csv")

    assert result.returncode == 0, result.stderr
    answers = pd.read_csv(folder / "answers.csv")
    assert len(answers) == 7
    assert set(frame.columns) < set(answers.columns)
    probabilities = answers.filter(like="probability").sum(axis=1)
    assert probabilities.tolist() == pytest.approx([1.0] * 7, abs=1e-5)


def test_stopped_run_exits_with_75_and_resumes(setwise_in: Callable[[Path], Run], tmp_path: Path):
    setwise = setwise_in(tmp_path)

    stopped = setwise("train", "npt/breast-cancer", *SHORT, "trainer.max_time=0.001s")
    resumed = setwise("resume", "latest", "trainer.max_time=10m")

    assert stopped.returncode == 75, stopped.stderr
    assert "setwise resume" in stopped.stdout
    assert resumed.returncode == 0, resumed.stderr
    steps = [json.loads(line)["step"] for line in (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "npt/breast-cancer"], 'did you mean "train"'),
        (["train", "npt/breast-cancr"], 'did you mean "npt/breast-cancer"'),
        (["train", "npt/breast-cancer", "trainer.max_stps=3"], 'did you mean "max_steps"'),
        (["train", "npt/breast-cancer", "trainer.max_steps=soon"], "soon"),
        (["train", "npt/breast-cancer", "optimizer.name=npt/lmb"], "npt/lamb"),
        (["train", "nowhere.yaml"], "there is no such file"),
        (["resume", "yesterday"], "yesterday"),
        (["list", "modls"], 'did you mean "models"'),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(
    setwise_in: Callable[[Path], Run], tmp_path: Path, arguments: list[str], said: str
):
    result = setwise_in(tmp_path)(*arguments)

    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
