"""The Trainer: one loop for every model, task and dataset, exact to the bit when stopped and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from setwise.config import TrainerConfig, parse_duration
from setwise.data.dataset import AbstractDataModule
from setwise.device import configure, explain_out_of_memory, move, preserve_rng, seed_everything_of
from setwise.errors import CheckpointError, SetwiseError, TrainingError
from setwise.seeding import derive_seed
from setwise.tasks.task import AbstractTask, StepContext
from setwise.train.callbacks import AbstractCallback
from setwise.train.checkpoint import CheckpointStore
from setwise.train.engine import AbstractEngine
from setwise.train.evaluation import check_splits_and_monitor, evaluate, scalar_like
from setwise.train.feed import MicroBatch, TrainFeed
from setwise.train.runs import RunFolder
from setwise.train.signals import StopSignals
from setwise.train.trackers import AbstractTracker

FINISHED = ("max_steps", "patience")
RESUMABLE = ("max_time", "SIGTERM", "SIGINT")


@dataclass
class TrainingState:
    """Where a run stands; with the weights and the optimizer's state, all that the future depends on.

    Attributes:
        step: finished optimizer steps. The place in the data and all randomness derive from it.
        elapsed: seconds of training, over all sessions.
        evaluated_step: step of the last complete evaluation.
        best_value: best value of the monitored metric, and
        best_step: the step it was reached at.
        stale: evaluations since then.
        loss_sum: loss since the last line of the log, and
        weight: the units it is summed over.
    """

    step: int = 0
    elapsed: float = 0.0
    evaluated_step: int = 0
    best_value: float | None = None
    best_step: int | None = None
    stale: int = 0
    loss_sum: float = 0.0
    weight: float = 0.0


@final
class Trainer:
    """Trains a model on a dataset with a task.

    Extend it with a Task and callbacks; it is not made to be subclassed. :meth:`fit` is the whole loop.

    Args:
        model: any ``nn.Module`` that the task can call.
        data: a prepared data module.
        task: owns the loss and the metrics.
        make_optimizer: builds the optimizer over the parameters of the (placed, possibly sharded) model.
        make_schedule: given the number of all steps, returns what maps the number of finished steps to the learning
            rate of the next; None keeps the optimizer's.
        engine: the hardware.
        config: what to do; see :class:`~setwise.config.TrainerConfig`.
        run: where checkpoints go.
        seed: all randomness derives from it.
        trackers: where metrics go.
        callbacks: what else happens, in this order.

    Raises:
        ConfigError: ``monitor`` names no metric, or the batch cannot be shared by the processes.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        data: AbstractDataModule,
        task: AbstractTask,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        make_schedule: Callable[[int], Callable[[int], float]] | None,
        engine: AbstractEngine,
        config: TrainerConfig,
        run: RunFolder,
        seed: int,
        trackers: Sequence[AbstractTracker] = (),
        callbacks: Sequence[AbstractCallback] = (),
    ) -> None:
        self.data, self.task, self.engine = data, task, engine
        self.config, self.run, self.seed = config, run, seed
        self.trackers, self.callbacks = tuple(trackers), tuple(callbacks)
        self.store = CheckpointStore(run.checkpoints_path)
        self.state = TrainingState()
        self.feed = TrainFeed(
            data,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
            rank=engine.rank,
            world_size=engine.world_size,
            num_workers=config.num_workers,
            pin_memory=engine.device.type == "cuda",
        )
        self.max_steps = config.max_steps or (config.max_epochs or 0) * self.feed.steps_per_epoch
        self.schedule = None if make_schedule is None else make_schedule(self.max_steps)
        self.eval_every = config.eval_every or self.feed.steps_per_epoch
        self._max_seconds = math.inf if config.max_time is None else parse_duration(config.max_time)
        check_splits_and_monitor(config, task, data)
        engine.prepare(model, make_optimizer, compiled=config.compile)
        self._base_lrs = [group["lr"] for group in engine.optimizer.param_groups]
        # That of the configuration, which the schedule starts from; a group may have another of its own.
        self._lr = engine.optimizer.defaults.get("lr", self._base_lrs[0])
        self._signals = StopSignals()
        self._scalars: Mapping[str, Tensor] = {}
        self._saved_step: int | None = None
        self._session_start = self._log_start = time.perf_counter()
        self._steps_since_log = 0

    def fit(self) -> str:
        """Train from where :attr:`state` stands to the end, or until something stops it.

        Returns:
            Why it ended: ``"max_steps"`` or ``"patience"`` (finished), ``"max_time"``, ``"SIGTERM"`` or ``"SIGINT"``
            (a checkpoint was written; :meth:`resume` and :meth:`fit` go on to the same bits).

        Raises:
            TrainingError: the loss is not finite any more.
            CheckpointError: a checkpoint cannot be written.
            DeviceError: the device's memory does not suffice; the message says what to lower.
        """
        state, reason = self.state, "error"
        elapsed_before = state.elapsed
        self._session_start = self._log_start = time.perf_counter()
        self._totals = torch.tensor([state.loss_sum, state.weight], device=self.engine.device)
        self.engine.module.train()
        try:
            for callback in self.callbacks:
                callback.on_fit_start(self)
            with (
                self._signals,
                preserve_rng(self.engine.device),
                configure(tf32=self.config.tf32, deterministic=self.config.deterministic),
                explain_out_of_memory(self._memory_advice()),
            ):
                steps = self.feed.steps(state.step, self.max_steps)
                while True:
                    state.elapsed = elapsed_before + time.perf_counter() - self._session_start
                    if self._evaluation_is_due():
                        self._evaluate_and_judge()
                    stop = self._stop_reason()
                    if stop is not None:
                        break
                    self._train_step(next(steps))
                    if state.step % self.config.log_every == 0:
                        self._log_training()
                    if self.config.checkpoint_every and state.step % self.config.checkpoint_every == 0:
                        self.save()
                if self._saved_step != state.step:
                    self.save()
            reason = stop
        finally:
            for callback in self.callbacks:
                callback.on_fit_end(self, reason)
            for tracker in self.trackers:
                tracker.close()
        return reason

    def resume(self) -> list[str]:
        """Take up the newest sound checkpoint of the run.

        Returns:
            A message for each newer checkpoint that was damaged and passed over, and for the best one if it is lost:
            the best weights are then sought anew.

        Raises:
            CheckpointError: there is none, or it belongs to another model.
        """
        if self.engine.is_main:
            self.store.recover()
        self.engine.barrier()
        checkpoint, problems = self.store.load_newest()
        try:
            self.engine.load_model(checkpoint.model)
            self.engine.load_optimizer(checkpoint.optimizer or {})
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.store.folder(checkpoint.step)} does not fit this model and optimizer: {error}; "
                "resume with the configuration it was trained with"
            ) from error
        if self.engine.scaler is not None and checkpoint.state["scaler"] is not None:
            self.engine.scaler.load_state_dict(checkpoint.state["scaler"])
        self.state = state = TrainingState(**checkpoint.state["training"])
        self._saved_step = state.step
        if state.best_step is not None and (lost := self.store.problem_of(state.best_step)) is not None:
            problems.append(f"the best weights so far are lost: {lost}")
            state.best_step = state.best_value = None
        for callback in self.callbacks:
            callback.load_state_dict(checkpoint.state["callbacks"].get(type(callback).__name__, {}))
        for tracker in self.trackers:
            tracker.rewind(state.step, keep_evaluations=state.evaluated_step == state.step)
        return problems

    def save(self, *, resumable: bool = True) -> None:
        """Write a checkpoint at the current step and remove the ones no longer needed.

        Args:
            resumable: False keeps the weights alone.

        Raises:
            CheckpointError: the disk is full or not writable.
            TrainingError: the loss since the last log line is not finite.
        """
        self.state.loss_sum, self.state.weight = self._finite_totals()
        model, optimizer = self.engine.state()
        failure: SetwiseError | None = None
        if self.engine.is_main:
            try:
                self._write(model, optimizer if resumable else None)
            except SetwiseError as error:
                failure = error
        if self.engine.agree(int(failure is not None)):  # the other processes end with the one that writes
            raise failure or CheckpointError(
                f"the main process could not write the checkpoint of step {self.state.step}"
            )
        if resumable:
            self._saved_step = self.state.step

    def _write(self, model: Mapping[str, Tensor], optimizer: Mapping[str, Any] | None) -> None:
        state = {
            "training": asdict(self.state),
            "scaler": self.engine.scaler.state_dict() if self.engine.scaler is not None else None,
            "callbacks": {type(c).__name__: c.state_dict() for c in self.callbacks},
        }
        folder = self.store.save(self.state.step, model=model, optimizer=optimizer, state=state)
        self._prune()
        for callback in self.callbacks:
            callback.on_checkpoint(self, folder)

    def _prune(self) -> None:
        """Keep the newest checkpoints, the best one, and for each kept the one that was the best at its time."""
        # Later ones are damaged, or were reached by a session that was killed, and will be reached again.
        steps = [step for step in self.store.steps(resumable=True) if step <= self.state.step]
        newest = steps[-self.config.keep_checkpoints :]
        best = {self.state.best_step, *(self.store.state(s).get("training", {}).get("best_step") for s in newest)}
        self.store.prune({*newest, *(step for step in best if step is not None)})

    def finish(self) -> dict[str, dict[str, float]] | None:
        """Load the best weights and evaluate the final splits; call it when :meth:`fit` has finished.

        Returns:
            Metrics by split; None when :attr:`stop_signal` came first, and a resumed run does it again.

        Raises:
            CheckpointError: the best checkpoint is damaged.
        """
        if self.state.best_step is not None:
            self.engine.load_model(self.store.load(self.state.best_step).model)
        results: dict[str, dict[str, float]] = {}
        with (
            self._signals,
            preserve_rng(self.engine.device),
            configure(tf32=self.config.tf32, deterministic=self.config.deterministic),
        ):
            for split in self.config.final_splits:
                if split in self.data.splits:
                    found = self._evaluate(split)
                    if found is None:
                        return None
                    results[split] = found
            for split, values in results.items():
                self._log({"split": split, **values, "final": True})
        for tracker in self.trackers:
            tracker.close()
        return results

    @property
    def stop_signal(self) -> str | None:
        """The signal that came during the last :meth:`fit` or :meth:`finish`, if one did."""
        return self._signals.received

    def _train_step(self, micro_batches: Sequence[MicroBatch]) -> None:
        engine, step = self.engine, self.state.step
        num_items = self.feed.num_items_at(step)
        alone = len(micro_batches) == 1 and engine.world_size == 1
        parts: list[Tensor] = []
        scalars: Mapping[str, Tensor] = {}
        for number, micro in enumerate(micro_batches):
            seed_everything_of(engine.device, derive_seed(self.seed, "step", step, engine.rank, number))
            ctx = StepContext(step, micro.epoch, step / self.max_steps, "train", True, self.seed, micro.positions)
            with engine.accumulate(last=number == len(micro_batches) - 1):
                with engine.autocast():
                    out = self.task.step(engine.model, move(micro.data, engine.device), ctx)
                loss, weight, scalars = out.loss_sum, out.weight, out.scalars
                if not micro.counted:
                    loss, weight = loss * 0, 0.0
                # Alone, the mean is known at once; otherwise the sum is kept in range by the item count, and the
                # gradients are divided by the global weight after the last micro-batch.
                engine.backward(loss / (_nonzero(weight) if alone else num_items))
                parts.append(torch.stack([loss.detach().to(self._totals.dtype), scalar_like(self._totals, weight)]))
        totals = parts[0] if alone else torch.stack(parts).sum(0)
        factor = None
        if not alone:
            totals = engine.sum(totals)
            # The engine averages gradients over processes; this turns the average back into the sum.
            factor = engine.world_size * num_items / _nonzero(totals[1])
        self._set_learning_rate(step)
        norm = engine.apply_gradients(factor, clip_norm=self.config.clip_norm, clip_value=self.config.clip_value)
        self._totals += totals
        self._scalars = scalars if norm is None else {**scalars, "grad_norm": norm}
        self._steps_since_log += 1
        self.state.step += 1
        for callback in self.callbacks:
            callback.on_step_end(self)

    def _set_learning_rate(self, step: int) -> None:
        if self.schedule is not None:
            factor = self.schedule(step) / self._lr if self._lr else 0.0
            for group, base in zip(self.engine.optimizer.param_groups, self._base_lrs, strict=True):
                group["lr"] = base * factor

    def _log_training(self) -> None:
        loss_sum, weight = self._finite_totals()
        now = time.perf_counter()
        self._log(
            {
                "split": "train",
                "loss": loss_sum / weight if weight else math.nan,
                "lr": self.engine.optimizer.param_groups[0]["lr"],
                "steps_per_second": self._steps_since_log / (now - self._log_start),
                **{name: float(value) for name, value in self._scalars.items()},
            }
        )
        self._totals.zero_()
        self._log_start, self._steps_since_log = now, 0

    def _log(self, values: Mapping[str, Any]) -> None:
        step = self.state.step
        epoch = max(0, step - 1) // self.feed.steps_per_epoch
        record = {"step": step, "epoch": epoch, "time": round(self.state.elapsed, 3), **values}
        if self.engine.is_main:
            for tracker in self.trackers:
                tracker.log(record)
        for callback in self.callbacks:
            callback.on_log(self, record)

    def _finite_totals(self) -> tuple[float, float]:
        loss_sum, weight = self._totals.tolist()
        if not math.isfinite(loss_sum):
            saved = self.store.steps(resumable=True)
            raise TrainingError(
                f"the loss is {loss_sum} within the {self._steps_since_log} steps up to {self.state.step}; lower "
                f"optimizer.lr (now {self._lr}), set trainer.clip_norm, or use trainer.precision=32"
                + (f" (the newest checkpoint is that of step {saved[-1]})" if saved else "")
            )
        return loss_sum, weight

    def _evaluation_is_due(self) -> bool:
        step = self.state.step
        at_end = step == self.max_steps
        return step > self.state.evaluated_step and (step % self.eval_every == 0 or at_end)

    def _evaluate_and_judge(self) -> None:
        """Evaluate the splits, remember the best step, and keep its weights; nothing happens when cut short."""
        started, state = time.perf_counter(), self.state
        results: dict[str, dict[str, float]] = {}
        for split in self.config.eval_splits:
            found = self._evaluate(split)
            if found is None:
                return
            results[split] = found
        for split, values in results.items():
            self._log({"split": split, **values})
        state.evaluated_step = state.step
        improved = False
        if results:
            split, _, name = self.config.monitor.partition("/")
            value = results[split][name]
            sign = 1 if self.config.monitor_mode == "min" else -1
            improved = not math.isnan(value) and (state.best_value is None or sign * value < sign * state.best_value)
            state.stale = 0 if improved else state.stale + 1
            if improved:
                state.best_value, state.best_step = value, state.step
        self._log_start += time.perf_counter() - started  # steps per second are those of training
        if improved or self.config.checkpoint_every is None:
            self.save(resumable=self.config.checkpoint_every is None or self._saved_step == state.step)

    def _evaluate(self, split: str) -> dict[str, float] | None:
        return evaluate(
            self.engine,
            self.task,
            self.data,
            split,
            batch_size=self.config.micro_batch_size or self.config.batch_size,
            seed=self.seed,
            should_stop=lambda: self._signals.received is not None,
        )

    def _stop_reason(self) -> str | None:
        """Return why training ends here, the same in all processes."""
        patience = self.config.patience
        if patience is not None and self.state.stale >= patience:
            return "patience"
        if self.state.step >= self.max_steps and not self._evaluation_is_due():
            return "max_steps"
        code = int(time.perf_counter() - self._session_start >= self._max_seconds)
        if self._signals.received is not None:
            code = 1 + RESUMABLE.index(self._signals.received)
        # Asking the other processes waits for the device: on an accelerator they agree at log steps only.
        if (
            self.engine.device.type == "cpu"
            or self.state.step % self.config.log_every == 0
            or self.engine.world_size == 1
        ):
            code = self.engine.agree(code)
            return RESUMABLE[code - 1] if code else None
        return None

    def _memory_advice(self) -> str:
        micro = self.config.micro_batch_size or self.config.batch_size
        return (
            f"lower trainer.micro_batch_size (now {micro}; it changes the memory and, up to dropout, not the result), "
            "the size of an item, or the model's width"
        )


def _nonzero(weight: Tensor | float) -> Tensor | float:
    """Replace a zero weight, whose loss is zero too, by one."""
    return weight + (weight == 0)
