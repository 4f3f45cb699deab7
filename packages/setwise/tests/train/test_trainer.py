from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from setwise.errors import CheckpointError, ConfigError, DataError, TrainingError
from setwise.tasks import StepOutput
from setwise.train.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.engine.module.state_dict().items()}


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def kill_self(number: signal.Signals) -> Callable[[Trainer], None]:
    return lambda trainer: os.kill(os.getpid(), number)


def records(trainer: Trainer, split: str) -> list[dict[str, float]]:
    found = [json.loads(line) for line in trainer.run.metrics_path.read_text().splitlines()]
    return [record for record in found if record["split"] == split]


def without_times(found: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k not in ("time", "steps_per_second")} for record in found]


def test_training_lowers_the_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=200, eval_every=100)
    assert trainer.fit() == "max_steps"
    first, last = records(trainer, "train")[0], records(trainer, "train")[-1]
    assert last["loss"] < 0.2 * first["loss"]


@pytest.mark.parametrize("micro_batch_size", [1, 5])
def test_accumulation_and_ragged_last_batches_do_not_change_the_result(
    make_trainer: MakeTrainer, micro_batch_size: int
) -> None:
    whole, parts = make_trainer("whole"), make_trainer("parts", micro_batch_size=micro_batch_size)
    whole.fit()
    parts.fit()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_at", [1, 4, 6, 11])
def test_a_run_that_is_stopped_and_resumed_gives_the_same_bits(
    make_trainer: MakeTrainer, act: type, stop_at: int, workers: int
) -> None:
    options = {"dropout": 0.3, "micro_batch_size": 1, "num_workers": workers, "schedule": lambda s: 0.01 / (1 + s)}
    undisturbed = make_trainer("undisturbed", **options)
    undisturbed.fit()
    stopped = make_trainer("stopped", **options, callbacks=[act(stop_at, kill_self(signal.SIGTERM))])
    reason = stopped.fit()
    assert reason == "SIGTERM" if stop_at < 11 else reason in ("SIGTERM", "max_steps")
    resumed = make_trainer("stopped", **options)
    assert resumed.resume() == []
    assert resumed.state.step == stop_at
    assert resumed.fit() == "max_steps"
    assert_same_bits(weights(resumed), weights(undisturbed))
    for split in ("train", "val"):
        assert without_times(records(resumed, split)) == without_times(records(undisturbed, split))
    assert resumed.finish() == undisturbed.finish()


def test_sigint_stops_after_the_step_and_signal_handlers_are_put_back(make_trainer: MakeTrainer, act: type) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(callbacks=[act(3, kill_self(signal.SIGINT))])
    assert trainer.fit() == "SIGINT"
    assert trainer.state.step == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_workers_leave_the_signals_of_a_whole_job_to_the_trainer(make_trainer: MakeTrainer, act: type) -> None:
    def signal_workers(trainer: Trainer) -> None:
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGTERM)
            os.kill(worker.pid, signal.SIGINT)

    assert make_trainer(num_workers=2, callbacks=[act(5, signal_workers)]).fit() == "max_steps"


def test_the_wall_clock_limit_stops_a_session_and_the_next_goes_on(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_time="0.000001s")
    assert trainer.fit() == "max_time"
    resumed = make_trainer()
    resumed.resume()
    assert resumed.fit() == "max_steps"


def test_after_kill_9_the_last_checkpoint_is_resumed_and_later_lines_are_forgotten(
    make_trainer: MakeTrainer, act: type
) -> None:
    class KilledError(Exception):
        pass

    def die(trainer: Trainer) -> None:
        raise KilledError

    undisturbed = make_trainer("undisturbed", checkpoint_every=2)
    undisturbed.fit()
    killed = make_trainer("killed", checkpoint_every=2, callbacks=[act(10, die)])
    with pytest.raises(KilledError):
        killed.fit()
    resumed = make_trainer("killed", checkpoint_every=2)
    resumed.resume()
    assert resumed.state.step == 8
    resumed.fit()
    assert_same_bits(weights(resumed), weights(undisturbed))
    assert without_times(records(resumed, "val")) == without_times(records(undisturbed, "val"))


def test_training_does_not_touch_the_global_random_state(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(dropout=0.5)
    before = torch.get_rng_state()
    trainer.fit()
    trainer.finish()
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_and_log_cadence_do_not_change_the_weights(make_trainer: MakeTrainer) -> None:
    one, other = make_trainer("one", dropout=0.5), make_trainer("other", dropout=0.5, num_workers=2, log_every=1)
    one.fit()
    other.fit()
    assert_same_bits(weights(one), weights(other))


def test_the_best_weights_are_kept_and_evaluated_at_the_end(make_trainer: MakeTrainer) -> None:
    rates = [0.05] * 8 + [5.0] * 12
    trainer = make_trainer(max_steps=20, eval_every=2, keep_checkpoints=1, schedule=lambda step: rates[step])
    trainer.fit()
    final = trainer.finish()
    evaluations = records(trainer, "val")
    best = min((r for r in evaluations if not r.get("final")), key=lambda r: r["loss"])
    assert trainer.state.best_step == best["step"] < 20
    assert final["val"]["loss"] == best["loss"]
    assert set(final) == {"val", "test"}
    assert set(trainer.store.steps()) == {best["step"], 20}


def test_a_signal_during_the_final_evaluation_stops_it_and_resuming_repeats_it(
    make_trainer: MakeTrainer, squared_error: type
) -> None:
    class Signalled(squared_error):
        def step(self, model, batch, ctx):
            if ctx.split == "test":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(model, batch, ctx)

    undisturbed, stopped = make_trainer("undisturbed"), make_trainer("stopped", task=Signalled(), micro_batch_size=1)
    undisturbed.fit()
    assert stopped.fit() == "max_steps"
    assert stopped.finish() is None
    assert stopped.stop_signal == "SIGTERM"
    assert not any(record.get("final") for record in records(stopped, "val"))
    resumed = make_trainer("stopped")
    resumed.resume()
    assert resumed.fit() == "max_steps"
    assert resumed.finish().keys() == undisturbed.finish().keys()


def test_patience_counts_evaluations_without_improvement(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=100, eval_every=1, patience=3, schedule=lambda step: 0.0)
    assert trainer.fit() == "patience"
    assert trainer.state.step == 4  # the first evaluation is the best, three more do not improve on it


def test_between_full_checkpoints_only_weights_are_kept_for_the_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=12, eval_every=2, checkpoint_every=6)
    trainer.fit()
    assert trainer.store.steps(resumable=True) == [6, 12]
    assert trainer.state.best_step in trainer.store.steps()


def test_a_loss_that_is_not_finite_ends_training_and_is_not_saved(
    make_trainer: MakeTrainer, squared_error: type
) -> None:
    class Diverges(squared_error):
        def step(self, model, batch, ctx):
            out = super().step(model, batch, ctx)
            return StepOutput(out.loss_sum * (math.nan if ctx.step == 6 else 1.0), out.weight, out.metrics)

    trainer = make_trainer(task=Diverges())
    with pytest.raises(TrainingError, match=r"loss is nan.*optimizer\.lr.*step 4"):
        trainer.fit()
    assert trainer.store.steps() == [4]


def test_a_step_without_any_unit_of_loss_changes_nothing(make_trainer: MakeTrainer, squared_error: type) -> None:
    class Nothing(squared_error):
        def step(self, model, batch, ctx):
            out = super().step(model, batch, ctx)
            return StepOutput(out.loss_sum * 0, 0.0, out.metrics)

    trainer = make_trainer(task=Nothing(), eval_splits=[], optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
    before = weights(trainer)
    trainer.fit()
    assert_same_bits(weights(trainer), before)


def test_a_schedule_scales_the_learning_rate_of_every_group_by_the_same_factor(make_trainer: MakeTrainer) -> None:
    def two_groups(module: nn.Module) -> torch.optim.Optimizer:
        first, *rest = module.parameters()
        return torch.optim.SGD([{"params": [first], "lr": 0.003}, {"params": rest}], lr=0.01)

    trainer = make_trainer(optimizer=two_groups, schedule=lambda step: 0.01 * 0.5**step, max_steps=3, eval_splits=[])
    trainer.fit()
    rates = [group["lr"] for group in trainer.engine.optimizer.param_groups]
    assert rates == pytest.approx([0.003 / 4, 0.01 / 4])


def test_a_learning_rate_of_zero_learns_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0), schedule=lambda step: 0.0)
    before = weights(trainer)
    trainer.fit()
    assert_same_bits(weights(trainer), before)


def test_the_largest_value_is_the_best_when_that_is_asked_for(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(monitor_mode="max", patience=1, eval_every=1, max_steps=30)
    assert trainer.fit() == "patience"  # the loss falls, so the first evaluation is the largest
    assert (trainer.state.best_step, trainer.state.step) == (1, 2)


def test_clipping_bounds_the_step(make_trainer: MakeTrainer) -> None:
    sgd = {"optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=1.0), "max_steps": 1, "eval_splits": []}
    by_norm, by_value = make_trainer("n", clip_norm=0.01, **sgd), make_trainer("v", clip_value=0.001, **sgd)
    for trainer, norm in ((by_norm, True), (by_value, False)):
        before = weights(trainer)
        trainer.fit()
        change = torch.cat([(weights(trainer)[name] - before[name]).flatten() for name in before])
        if norm:
            assert change.norm().item() == pytest.approx(0.01, rel=1e-3)
        else:
            assert change.abs().max().item() == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"monitor": "val/los"},
            r'monitor="val/los" is not measured; allowed: val/loss, val/mae; did you mean "val/loss"',
        ),
        (
            {"eval_splits": ["vl"], "monitor": "vl/loss"},
            r'names "vl", the data has: train, val, test; did you mean "val"',
        ),
        ({"final_splits": ["tset"]}, r'final_splits names "tset", the data has: train, val, test; did you mean "test"'),
    ],
)
def test_impossible_evaluations_are_refused_before_training(
    make_trainer: MakeTrainer, options: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_trainer(**options)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(make_trainer: MakeTrainer) -> None:
    undisturbed = make_trainer()
    undisturbed.fit()
    newest = undisturbed.store.folder(undisturbed.store.steps()[-1])
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    resumed = make_trainer()
    (problem,) = resumed.resume()
    assert str(newest) in problem
    assert "model.safetensors" in problem
    assert resumed.state.step == 8
    resumed.fit()
    assert_same_bits(weights(resumed), weights(undisturbed))


def test_the_best_weights_of_every_checkpoint_that_can_be_resumed_are_kept(make_trainer: MakeTrainer) -> None:
    options = {"eval_every": 2, "checkpoint_every": 7}
    trainer = make_trainer(max_steps=10, **options)  # gets better all the time: the best are at 2, 4, 6, 8, 10
    trainer.fit()
    trainer.store.prune(set(trainer.store.steps()) - {10})  # as if it had been killed before the end
    back = make_trainer(max_steps=7, **options)
    back.resume()
    assert (back.state.step, back.state.best_step) == (7, 6)
    assert back.fit() == "max_steps"
    assert back.finish()["val"].keys() == {"loss", "mae"}


def test_a_new_checkpoint_counts_as_newer_than_damaged_ones_of_later_steps(
    make_trainer: MakeTrainer, act: type
) -> None:
    options = {"max_steps": 12, "eval_every": 2, "keep_checkpoints": 1, "schedule": lambda s: 0.01 if s < 4 else 5.0}
    trainer = make_trainer(**options)
    trainer.fit()
    assert trainer.store.steps() == [4, 12]
    (trainer.store.folder(12) / "state.json").write_text("{}")
    stopped = make_trainer(**options, callbacks=[act(9, kill_self(signal.SIGTERM))])
    assert len(stopped.resume()) == 1
    assert stopped.fit() == "SIGTERM"
    assert stopped.store.steps() == [4, 9]
    resumed = make_trainer(**options)
    assert resumed.resume() == []
    assert resumed.state.step == 9


def test_a_process_killed_while_it_replaces_a_checkpoint_loses_nothing(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    rename = Path.rename

    def die_between_the_renames(path: Path, target: Path) -> Path:
        if target.name == "00000006" and list(target.parent.glob("00000006.*.tmp")):
            raise KilledError
        return rename(path, target)

    options = {"max_steps": 8, "eval_every": 2, "checkpoint_every": 2, "keep_checkpoints": 1}
    killed = make_trainer(**options)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", die_between_the_renames)
        with pytest.raises(KilledError):
            killed.fit()
    resumed = make_trainer(**options)
    assert resumed.resume() == []
    assert resumed.state.step == 6


def test_a_trainer_that_was_stopped_by_a_signal_goes_on_when_told_to(make_trainer: MakeTrainer, act: type) -> None:
    trainer = make_trainer(callbacks=[act(3, kill_self(signal.SIGTERM))])
    assert trainer.fit() == "SIGTERM"
    assert trainer.fit() == "max_steps"


def test_a_checkpoint_of_another_model_is_refused(make_trainer: MakeTrainer) -> None:
    make_trainer().fit()
    other = make_trainer()
    other.engine.module[0] = nn.Linear(3, 17)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        other.resume()


def test_lost_best_weights_are_named_and_sought_anew(make_trainer: MakeTrainer) -> None:
    rates = [0.05] * 4 + [5.0] * 16
    first = make_trainer(max_steps=8, eval_every=4, keep_checkpoints=1, schedule=lambda step: rates[step])
    first.fit()
    assert first.state.best_step == 4
    (first.store.folder(4) / "model.safetensors").unlink()
    resumed = make_trainer(max_steps=12, eval_every=4, schedule=lambda step: rates[step])
    (problem,) = resumed.resume()
    assert "best weights so far are lost" in problem
    assert "model.safetensors is missing" in problem
    assert resumed.fit() == "max_steps"
    assert resumed.state.best_step == 12
    assert resumed.finish() is not None


def test_a_process_whose_main_process_cannot_write_ends_too(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.engine.rank = 1
    trainer.engine.agree = lambda flag: 1 if trainer.state.step == 4 else flag
    with pytest.raises(CheckpointError, match="the main process could not write the checkpoint of step 4"):
        trainer.fit()


def test_as_many_newest_checkpoints_are_kept_as_asked_for(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_steps=10, checkpoint_every=2, keep_checkpoints=3, eval_splits=[])
    trainer.fit()
    assert trainer.store.steps() == [6, 8, 10]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_arrives_as_it_is(make_trainer: MakeTrainer, workers: int) -> None:
    trainer = make_trainer(num_workers=workers)

    def fail(split: str, epoch: int, index: int) -> None:
        raise DataError("the file is gone")

    trainer.data.item = fail  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DataError, match=r"^the file is gone$"):
        trainer.fit()


def test_resume_without_a_checkpoint_says_so(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint below .* can be resumed"):
        make_trainer().resume()


def test_a_callback_state_survives(make_trainer: MakeTrainer, act: type) -> None:
    class Counts(act):
        count = 0

        def on_step_end(self, trainer: Trainer) -> None:
            self.count += 1

        def state_dict(self) -> dict:
            return {"count": self.count}

        def load_state_dict(self, state: dict) -> None:
            self.count = state["count"]

    make_trainer(max_steps=4, callbacks=[Counts(0, print)]).fit()
    second = Counts(0, print)
    resumed = make_trainer(max_steps=6, callbacks=[second])
    resumed.resume()
    resumed.fit()
    assert second.count == 6
