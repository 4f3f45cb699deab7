"""From a configuration to a finished run: what ``setwise train``, ``resume``, ``evaluate`` and ``predict`` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from setwise.config import RunConfig, dump_config, load_config
from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import DataSpec
from setwise.device import DeviceSetup, configure, describe, move, preserve_rng, resolve_setup, seed_everything_of
from setwise.errors import CheckpointError, DataError, SetwiseError
from setwise.registry import Registry, default_registry
from setwise.seeding import derive_seed
from setwise.tasks.task import AbstractTask, StepContext
from setwise.train.callbacks import AbstractCallback
from setwise.train.checkpoint import CheckpointStore
from setwise.train.engine import AbstractEngine, SingleDeviceEngine, build_engine
from setwise.train.evaluation import evaluate
from setwise.train.files import write_atomically
from setwise.train.optim import parameter_groups
from setwise.train.provenance import git_revision, versions
from setwise.train.runs import RunFolder, new_run, open_run
from setwise.train.trackers import build_trackers
from setwise.train.trainer import FINISHED, Trainer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunResult:
    """How a session of training ended.

    Attributes:
        run: the run folder.
        reason: why training ended, see :meth:`setwise.train.trainer.Trainer.fit`.
        final: metrics of the best weights by split; None when the run was stopped and can be resumed.
        is_main: whether this is the process that talks to the user.
    """

    run: RunFolder
    reason: str
    final: dict[str, dict[str, float]] | None
    is_main: bool

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to resume."""
        return self.final is not None


def train(
    config: RunConfig,
    *,
    name: str,
    description: str = "",
    runs: Path,
    callbacks: Sequence[AbstractCallback] = (),
    announce: Callable[[str], None] = lambda line: None,
    registry: Registry | None = None,
) -> RunResult:
    """Start a run and train it to its end, or until it is stopped.

    Args:
        config: what to train.
        name: what the run is filed under, ``<plugin>/<recipe>``.
        description: what the recipe says of itself.
        runs: where the run folder is made.
        callbacks: see :class:`~setwise.train.callbacks.AbstractCallback`.
        announce: takes lines that say what was chosen: device, precision, data, size of the model.
        registry: for the versions stored with the run; the installed plugins when None.

    Raises:
        SetwiseError: anything that is wrong with the input; no run folder is made when it can be known before training.
    """
    setup = resolve_setup(config.trainer.device, config.trainer.precision)
    engine = build_engine(setup, config.trainer.strategy)
    run = engine.broadcast(new_run(runs, name))
    trainer = build_trainer(config, engine=engine, run=run, callbacks=callbacks)
    if engine.is_main:
        run.create()
        write_atomically(run.config_path, dump_config(config))
        write_atomically(run.path / "data_spec.json", trainer.data.spec.to_json())
        run.update_info(
            {
                "recipe": name,
                "description": description,
                "seed": config.seed,
                "started": _now(),
                "versions": versions(registry or default_registry()),
                "git_revision": git_revision(Path.cwd()),
                "data_fingerprint": trainer.data.fingerprint(),
                "num_parameters": sum(p.numel() for p in engine.module.parameters()),
                "precision": setup.precision,
                "precision_reason": setup.reason,
                "processes": engine.world_size,
                "device": describe(setup.device),
            }
        )
        for line in _introduction(trainer, setup):
            announce(line)
    with _locked(run, engine):
        return _run(trainer)


def resume(
    run: RunFolder,
    *,
    overrides: Sequence[str] = (),
    callbacks: Sequence[AbstractCallback] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Go on with a run from its newest sound checkpoint, to the bits it would have reached undisturbed.

    Args:
        run: the run.
        overrides: changes to the configuration, of ``trainer`` only; they are stored with the run.
        callbacks: see :class:`~setwise.train.callbacks.AbstractCallback`.
        announce: takes lines that say where training goes on, and which damaged checkpoints were passed over.

    Raises:
        SetwiseError: an override is outside ``trainer``; the data has changed; there is no checkpoint to go on from.
    """
    for override in overrides:
        if not override.startswith("trainer."):
            raise SetwiseError(
                f'"{override}" would change what the run computes; resume takes trainer.* only, such as '
                "trainer.max_steps=2000 or trainer.max_time=1h. Start a new run with setwise train for the rest"
            )
        if override.startswith("trainer.batch_size="):
            raise SetwiseError(f'"{override}" would change which items a step uses; start a new run with setwise train')
    config, info = load_config(run.config_path, overrides), run.info()
    precision = config.trainer.precision
    setup = resolve_setup(config.trainer.device, info["precision"] if precision == "auto" else precision)
    trainer = build_trainer(config, engine=build_engine(setup, config.trainer.strategy), run=run, callbacks=callbacks)
    _check_data(run, trainer.data)
    with _locked(run, trainer.engine):
        problems = trainer.resume()
        if trainer.engine.is_main:
            for problem in problems:
                announce(f"{problem}; going on without it")
            write_atomically(run.config_path, dump_config(config))
            if setup.precision != info["precision"]:
                run.update_info({"precision": setup.precision, "precision_reason": setup.reason})
            announce(f"Resuming {run.name} at step {trainer.state.step} of {trainer.max_steps}")
        return _run(trainer)


def build_trainer(
    config: RunConfig, *, engine: AbstractEngine, run: RunFolder, callbacks: Iterable[AbstractCallback] = ()
) -> Trainer:
    """Build data, task, model and Trainer of a configuration; writes nothing.

    Raises:
        SetwiseError: anything that is wrong with the data or does not fit together.
    """
    data = build_data(config, engine)
    task, model = _build_task_and_model(config, data.spec)
    lr = config.optimizer.options.lr  # pyright: ignore[reportAttributeAccessIssue]  # see OptimizerSpec

    return Trainer(
        model,
        data=data,
        task=task,
        make_optimizer=lambda module: config.optimizer.build(params=parameter_groups(module)),
        make_schedule=lambda num_steps: config.schedule.build(num_steps=num_steps, lr=lr),
        engine=engine,
        config=config.trainer,
        run=run,
        seed=config.seed,
        trackers=build_trackers(config.trainer.trackers, run.path) if engine.is_main else (),
        callbacks=(_KeepStanding(), *callbacks),
    )


def build_data(config: RunConfig, engine: AbstractEngine) -> AbstractDataModule:
    """Build and prepare the data; with several processes the first fetches it and the others find it there."""
    data: AbstractDataModule = config.data.build(seed=config.seed)
    if engine.is_main:
        data.prepare()
    engine.barrier()
    data.prepare()
    return data


@dataclass(frozen=True)
class TrainedRun:
    """A run loaded for use: its model with the best weights, and what belongs to it.

    Attributes:
        spec: the fields of the data that the model was trained on.
    """

    run: RunFolder
    config: RunConfig
    spec: DataSpec
    task: AbstractTask
    engine: AbstractEngine

    @cached_property
    def data(self) -> AbstractDataModule:
        """The data, read when it is first asked for; predicting single rows does not ask for it.

        Raises:
            SetwiseError: it is missing, or has changed since the run.
        """
        data = build_data(self.config, self.engine)
        _check_data(self.run, data)
        return data

    @property
    def model(self) -> nn.Module:
        """The model, in evaluation mode, on the device."""
        return self.engine.module

    def evaluate(self, split: str) -> dict[str, float]:
        """Return the loss and the metrics of a split.

        Raises:
            DataError: there is no such split.
        """
        size = self._batch_size
        with self._as_in_training():
            return evaluate(self.engine, self.task, self.data, split, batch_size=size, seed=self.config.seed) or {}

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a copy of the rows with columns of predictions added.

        Args:
            frame: new rows with the input columns of the training data, in any order.

        Raises:
            DataError: there are no rows, a column is missing, or the data is no table.
        """
        if frame.empty:
            raise DataError("there are no rows to predict; give a table with at least one")
        data: AbstractDataModule = self.config.data.build(seed=self.config.seed)
        if data.predicts_from_context:
            data = self.data
        items = data.prediction_items(frame, self.spec)
        parts: list[dict[str, torch.Tensor]] = []
        with self._as_in_training():
            for start in range(0, len(items), self._batch_size):
                chunk = items[start : start + self._batch_size]
                positions = range(start, start + len(chunk))
                ctx = StepContext(0, 0, 1.0, "predict", False, self.config.seed, positions)
                batch = move(data.collate(chunk), self.engine.device)
                with torch.no_grad(), self.engine.autocast():
                    predicted = self.task.predict(self.model, batch, ctx)
                parts.append({name: column.cpu() for name, column in predicted.items()})
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return frame.assign(**self.task.decode(columns))

    @property
    def _batch_size(self) -> int:
        return self.config.trainer.micro_batch_size or self.config.trainer.batch_size

    @contextmanager
    def _as_in_training(self) -> Iterator[None]:
        """Use the numerics of training, so that the numbers are those that training reported."""
        trainer, device = self.config.trainer, self.engine.device
        with preserve_rng(device), configure(tf32=trainer.tf32, deterministic=trainer.deterministic):
            yield


def load_run(run: RunFolder | str, *, device: str = "auto", step: int | None = None) -> TrainedRun:
    """Load a run's model with its best weights (the newest when nothing was evaluated), ready to evaluate or predict.

    Args:
        run: the run; or its folder, its id below ``runs``, or ``"latest"``.
        device: where the model goes.
        step: which checkpoint instead of the best.

    Raises:
        SetwiseError: there is no such run, or it has no sound checkpoint.
    """
    if isinstance(run, str):
        run = open_run(run, Path("runs"))
    config, info = load_config(run.config_path), run.info()
    store = CheckpointStore(run.checkpoints_path)
    if step is None:
        checkpoint, _ = store.load_newest(resumable=False)
        best_step = checkpoint.state["training"]["best_step"]
        if best_step is not None and best_step != checkpoint.step:
            if (lost := store.problem_of(best_step)) is not None:
                raise CheckpointError(
                    f"the best weights are lost: {lost}; use others with step, one of {store.steps()}"
                )
            checkpoint = store.load(best_step)
    elif step in store.steps():
        checkpoint = store.load(step)
    else:
        raise CheckpointError(f"{run.name} has no checkpoint at step {step}; it has: {store.steps()}")
    engine = SingleDeviceEngine(resolve_setup(device, info["precision"]))
    spec = DataSpec.from_json((run.path / "data_spec.json").read_text(encoding="utf-8"))
    task, model = _build_task_and_model(config, spec)
    engine.place(model)
    try:
        engine.load_model(checkpoint.model)
    except RuntimeError as error:
        raise CheckpointError(f"the weights of {run.name} do not fit its model: {error}") from error
    engine.module.eval()
    return TrainedRun(run, config, spec, task, engine)


def _build_task_and_model(config: RunConfig, spec: DataSpec) -> tuple[AbstractTask, nn.Module]:
    task = config.task.build(data=spec)
    cpu = torch.device("cpu")
    with preserve_rng(cpu):
        seed_everything_of(cpu, derive_seed(config.seed, "weights"))
        return task, config.model.build(data=spec)


def _locked(run: RunFolder, engine: AbstractEngine) -> AbstractContextManager[None]:
    return run.locked() if engine.is_main else nullcontext()


def _run(trainer: Trainer) -> RunResult:
    run, main = trainer.run, trainer.engine.is_main
    if main:
        sessions = [*(run.info().get("sessions", [])), {"started": _now(), "step": trainer.state.step}]
        run.update_info({"status": "running", "stop_reason": None, "sessions": sessions})
    ended: dict[str, Any] = {"status": "failed", "stop_reason": "error", "final": None}
    try:
        reason = trainer.fit()
        final = trainer.finish() if reason in FINISHED else None
        if final is None:
            reason = trainer.stop_signal or reason
        ended = {"status": "stopped" if final is None else "done", "stop_reason": reason, "final": final}
    except BaseException as error:
        ended["error"] = str(error) or type(error).__name__
        raise
    finally:
        if main:
            run.update_info({**_standing(trainer), **ended, "finished": _now()})
    return RunResult(run, reason, final, main)


class _KeepStanding(AbstractCallback):
    """Keeps ``run.json`` telling how far the run is, also for one that is killed later."""

    def on_checkpoint(self, trainer: Trainer, folder: Path) -> None:
        trainer.run.update_info(_standing(trainer))


def _standing(trainer: Trainer) -> dict[str, Any]:
    state = trainer.state
    best = {"step": state.best_step, "value": state.best_value, "monitor": trainer.config.monitor}
    return {"step": state.step, "elapsed": state.elapsed, "best": best}


def _check_data(run: RunFolder, data: AbstractDataModule) -> None:
    trained_on, found = run.info()["data_fingerprint"], data.fingerprint()
    if found != trained_on:
        raise SetwiseError(
            f"the data of {run.name} has changed since it was trained (fingerprint {found[:12]} instead of "
            f"{trained_on[:12]}); put the old data back, or train a new run"
        )


def _introduction(trainer: Trainer, setup: DeviceSetup) -> list[str]:
    data, parameters = trainer.data, sum(p.numel() for p in trainer.engine.module.parameters())
    items = ", ".join(f"{data.num_items(split)} {split}" for split in data.splits)
    return [
        f"Run        {trainer.run.path}",
        f"Device     {setup.device}, precision {setup.precision}: {setup.reason}",
        f"Data       items: {items}; fingerprint {data.fingerprint()[:12]}",
        f"Model      {type(trainer.engine.module).__name__}, {parameters:,} parameters",
    ]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
