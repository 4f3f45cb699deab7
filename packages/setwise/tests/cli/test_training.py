"""train, resume, evaluate and predict, as a user runs them."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from setwise.cli.main import main
from setwise.train.checkpoint import CheckpointStore
from setwise.train.runs import RunFolder, find_runs
from setwise.train.session import load_run

RECIPE = """\
# Kinds of flowers
#
# From the measures of their leaves.
model: {name: setwise/encoder, dim: 8, num_layers: 1, dropout: 0.2, attention: {name: mha, num_heads: 2}}
data: {name: table, path: flowers.csv, target: kind, val_fraction: 0.2}
task: {name: classification}
optimizer: {name: adamw, lr: 1e-2}
schedule: {name: cosine}
trainer: {max_steps: 12, batch_size: 16, micro_batch_size: 8, eval_every: 4, device: cpu, precision: 32, log_every: 2}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table and a recipe in it."""
    from sklearn.datasets import load_iris

    bunch = load_iris(as_frame=True)
    frame = bunch.frame.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    frame["kind"] = bunch.target_names[frame.pop("target")]
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    (tmp_path / "flowers.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_run() -> RunFolder:
    (run,) = find_runs(Path("runs"))
    return run


def test_a_run_from_beginning_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "flowers.yaml"]) == 0
    shown = capsys.readouterr().out
    run = only_run()
    assert "150" not in shown  # items are told by split
    assert "90 train, 30 val, 30 test" in shown
    assert "precision 32: precision=32 was asked for" in shown
    assert "step 12/12" in shown
    assert str(run.report_path) in shown
    assert run.path.parent == Path("runs/local/flowers")
    files = {path.relative_to(run.path).parts[0] for path in run.path.rglob("*")}
    expected = {
        ".lock",
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "data_spec.json",
        "checkpoints",
        "plots",
        "report.html",
    }
    assert files == expected
    info = run.info()
    assert info["status"] == "done"
    assert info["stop_reason"] == "max_steps"
    assert info["description"] == "Kinds of flowers\nFrom the measures of their leaves."
    assert info["final"].keys() == {"val", "test"}
    assert {"setwise", "torch", "python"} <= info["versions"].keys()
    assert len(info["data_fingerprint"]) == 64

    assert main(["evaluate", "latest", "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"test": info["final"]["test"]}

    assert main(["evaluate", "latest"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["split", "train", "val", "test"]

    assert main(["predict", "latest", "--input", "flowers.csv", "--output", "predicted.csv"]) == 0
    given, predicted = pd.read_csv("flowers.csv"), pd.read_csv("predicted.csv")
    pd.testing.assert_frame_equal(predicted[list(given.columns)], given)
    assert set(predicted["predicted_kind"]) <= set(given["kind"])
    probabilities = predicted[[f"probability_{kind}" for kind in sorted(given["kind"].unique())]]
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)

    assert main(["resume", "latest"]) == 0  # nothing is left to do, and nothing is lost
    assert run.info()["final"] == info["final"]


def test_a_saved_configuration_repeats_the_run(folder: Path) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    first = only_run()
    assert main(["--quiet", "train", str(first.config_path), "--runs", "again"]) == 0
    (second,) = find_runs(Path("again"))
    assert second.info()["recipe"] == "local/flowers"
    assert second.info()["final"] == first.info()["final"]
    weights = "checkpoints/00000012/model.safetensors"
    assert (first.path / weights).read_bytes() == (second.path / weights).read_bytes()


@pytest.mark.slow
def test_sigterm_leaves_a_run_that_resumes_to_the_same_bits(folder: Path) -> None:
    command = [sys.executable, "-m", "setwise", "train", "flowers.yaml", "trainer.max_steps=300", "--runs", "stopped"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step"):
                break
        process.send_signal(signal.SIGTERM)
        shown = process.stdout.read()
    assert process.returncode == 75
    assert "Stopped by SIGTERM. To go on: setwise resume stopped/local/flowers/" in shown
    (stopped,) = find_runs(Path("stopped"))
    step = stopped.info()["step"]
    assert 0 < step < 300
    assert main(["--quiet", "resume", str(stopped.path)]) == 0
    assert main(["--quiet", "train", "flowers.yaml", "trainer.max_steps=300", "--runs", "undisturbed"]) == 0
    (undisturbed,) = find_runs(Path("undisturbed"))
    mine, theirs = (
        load_file(run.path / "checkpoints" / "00000300" / "model.safetensors") for run in (stopped, undisturbed)
    )
    assert all((mine[name] == theirs[name]).all() for name in theirs)
    assert [session["step"] for session in stopped.info()["sessions"]] == [0, step]


def test_max_time_exits_with_75_and_more_steps_can_be_asked_for_on_resuming(folder: Path) -> None:
    assert main(["--quiet", "train", "flowers.yaml", "trainer.max_time=0.001s"]) == 75
    run = only_run()
    assert run.info()["stop_reason"] == "max_time"
    assert main(["--quiet", "resume", "latest", "trainer.max_time=null", "trainer.max_steps=16"]) == 0
    assert run.info()["step"] == 16
    assert "max_steps: 16" in run.config_path.read_text()


def test_a_precision_that_resuming_changed_is_the_one_that_evaluating_uses(folder: Path) -> None:
    assert main(["--quiet", "train", "flowers.yaml", "trainer.max_time=0.001s"]) == 75
    assert main(["--quiet", "resume", "latest", "trainer.max_time=null", "trainer.precision=bf16-mixed"]) == 0
    assert only_run().info()["precision"] == "bf16-mixed"
    assert load_run("latest").engine.setup.precision == "bf16-mixed"


def test_a_run_killed_before_its_first_whole_checkpoint_is_evaluated_with_the_best_weights(folder: Path) -> None:
    assert main(["--quiet", "train", "flowers.yaml", "trainer.checkpoint_every=100", "trainer.eval_every=12"]) == 0
    store = CheckpointStore(only_run().checkpoints_path)
    whole = store.load(12)
    store.save(12, model=whole.model, optimizer=None, state=whole.state)
    assert store.steps(resumable=True) == []
    assert load_run("latest").evaluate("val") == only_run().info()["final"]["val"]


def test_json_is_one_object_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "train", "flowers.yaml"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines[:-1] if line["split"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert lines[-1]["reason"] == "max_steps"
    assert lines[-1]["final"]["test"]["accuracy"] > 0.5


def edit(text: str, replacement: str) -> Callable[[], None]:
    def act() -> None:
        content = Path("flowers.csv").read_text()
        Path("flowers.csv").write_text(content.replace(text, replacement, 1))

    return act


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "overrides", "message"),
    [
        (
            nothing,
            ["trainer.max_stps=3"],
            'override trainer.max_stps=3: trainer.max_stps: unknown key; did you mean "max_steps"?',
        ),
        (nothing, ["trainer.max_steps=many"], "trainer.max_steps"),
        (nothing, ["model.name=encodr"], 'unknown model "encodr"; did you mean "encoder"?'),
        (nothing, ["data.path=flwers.csv"], "flwers.csv"),
        (nothing, ["data.target=kid"], 'did you mean "kind"?'),
        (nothing, ["trainer.device=cuda:99"], "cpu"),
        (edit("0.2,setosa", "0.2,"), [], 'target "kind" is missing in 1 of 150 rows'),
        (edit("5.1,", "five,"), ["data.continuous=[sepal_length]"], "five"),
        (lambda: Path("flowers.csv").write_text("sepal_length,kind\n"), [], "no row"),
        (edit("setosa", "orchid"), [], "orchid"),
        (lambda: Path("flowers.yaml").write_text("model: [1"), [], "flowers.yaml:1"),
        (nothing, ["data.fold=3"], "fold=3 does not exist"),
        (nothing, ["trainer.trackers=[tensorbord]"], 'did you mean "tensorboard"?'),
        (nothing, ["model.attention.num_heads=3"], "num_heads=3"),
        (nothing, ["task.name=regression"], "regression predicts Continuous targets; the data has: kind (Categorical)"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], overrides: list[str], message: str
) -> None:
    spoil()
    assert main(["train", "flowers.yaml", *overrides]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["resume", "evaluate", "report"])
def test_a_run_that_does_not_exist_is_explained(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "nowhere"]) == 2
    assert '"nowhere" is no run folder' in capsys.readouterr().err


def test_resuming_takes_changes_of_the_trainer_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    for override in ("model.dim=16", "trainer.batch_size=8"):
        assert main(["resume", "latest", override]) == 2
        assert "start a new run" in capsys.readouterr().err.lower()


def test_data_that_has_changed_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    edit("5.1,", "5.2,")()
    for command in (["resume", "latest"], ["evaluate", "latest"]):
        assert main(command) == 2
        assert "has changed since it was trained" in capsys.readouterr().err


def test_rows_are_predicted_without_the_training_data(folder: Path) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    pd.read_csv("flowers.csv").drop(columns="kind")[:7].to_csv("new.csv", index=False)
    Path("flowers.csv").unlink()
    assert main(["--quiet", "predict", "latest", "--input", "new.csv", "--output", "predicted.csv"]) == 0
    assert len(pd.read_csv("predicted.csv")["predicted_kind"].dropna()) == 7


def test_a_run_is_trained_by_one_process_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quiet", "train", "flowers.yaml", "trainer.max_time=0.001s"]) == 75
    run = only_run()
    with run.locked():
        assert main(["resume", "latest", "trainer.max_time=null"]) == 2
    assert "is being trained by another process" in capsys.readouterr().err
    assert main(["--quiet", "resume", "latest", "trainer.max_time=null"]) == 0


def test_json_of_predictions_has_null_for_an_empty_cell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    edit("5.1,", ",")()
    capsys.readouterr()
    assert main(["--quiet", "--json", "predict", "latest", "--input", "flowers.csv"]) == 0
    first, *_ = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert first["sepal_length"] is None


def test_predicting_checks_its_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quiet", "train", "flowers.yaml"]) == 0
    pd.read_csv("flowers.csv").drop(columns="petal_width").to_csv("narrow.csv", index=False)
    for arguments, message in (
        (["--input", "narrow.csv"], "petal_width"),
        (["--input", "nothing.csv"], "nothing.csv"),
        (["--input", "flowers.csv", "--output", "flowers.csv"], "is the input file itself"),
        (["--input", "flowers.csv", "--output", "result.xls"], "must end in one of .csv, .tsv, .parquet"),
        (["--input", "flowers.csv", "--output", "no/such/folder.csv"], "cannot write no/such/folder.csv"),
    ):
        assert main(["predict", "latest", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == {"flowers.csv", "flowers.yaml", "narrow.csv", "runs"}


def test_a_folder_without_write_permission_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root, who may run this, is refused by no real folder
    assert main(["train", "flowers.yaml"]) == 2
    shown = capsys.readouterr().err
    assert "cannot make the run folder" in shown
    assert "Permission denied" in shown


def test_a_run_folder_in_the_way_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("I am a file")
    assert main(["train", "flowers.yaml"]) == 2
    assert "cannot make the run folder" in capsys.readouterr().err
    assert Path("runs").read_text() == "I am a file"


def test_a_disk_that_fills_up_while_saving_ends_the_run_and_keeps_the_last_checkpoint(folder: Path) -> None:
    program = (
        "import resource, signal, sys; from setwise.cli.main import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "code = main(['--quiet', 'train', 'flowers.yaml']); assert code == 0, code; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); "
        "sys.exit(main(['--quiet', 'resume', 'latest', 'trainer.max_steps=16']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "cannot write the checkpoint" in done.stderr
    assert "step 12, which is safe" in done.stderr
    assert "Traceback" not in done.stderr
    run = only_run()
    assert run.info()["status"] == "failed"
    assert not list(run.path.rglob("*.tmp"))
    assert main(["--quiet", "resume", "latest"]) == 0
    assert run.info()["step"] == 16
