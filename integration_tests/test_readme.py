"""The README: its Python runs as it stands, and its commands are commands."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sklearn.datasets import load_breast_cancer

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SHORT = "trainer.max_steps=4"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The arguments of every `setwise` command, in the order of the README."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("$ setwise ")]


def write_patients(folder: Path) -> None:
    bunch = load_breast_cancer(as_frame=True)
    bunch.data.assign(diagnosis=bunch.target_names[bunch.target]).to_csv(folder / "patients.csv", index=False)


def test_every_command_and_the_python_work_in_this_order(
    setwise_in: Callable[[Path], Callable[..., subprocess.CompletedProcess[str]]], tmp_path: Path
):
    write_patients(tmp_path)
    setwise = setwise_in(tmp_path)

    told = commands()
    assert [command[0] for command in told] == [
        *("list", "show", "show", "train", "resume", "resume", "evaluate", "predict", "runs", "report", "train"),
    ]
    for command in told:
        shortened = [SHORT if part.startswith("trainer.max_steps=") else part for part in command]
        result = setwise(*shortened, *([SHORT] if command[0] == "train" else []))
        assert result.returncode == 0, (command, result.stderr)
    assert "predicted_target" in (tmp_path / "predicted.csv").read_text().splitlines()[0]

    library, trained, plugin = blocks("python")
    for program in (library, trained, plugin):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr


def test_the_first_two_commands_are_those_of_ci():
    assert blocks("console")[0] == "$ pip install uv\n$ uv run setwise train npt/breast-cancer\n"
    ci = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert "$ uv run nox\n" in blocks("console")
    assert ci.rstrip().endswith("uv run nox")
