"""What the trainer promises, on an accelerator; run by ``uv run nox -s tests_gpu``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
import torch

from setwise.device import DeviceSetup, describe, explain_out_of_memory, resolve_setup
from setwise.errors import DeviceError
from setwise.train.engine import SingleDeviceEngine
from setwise.train.trainer import Trainer

pytestmark = pytest.mark.gpu


def accelerator(precision: str) -> DeviceSetup:
    setup = resolve_setup("auto", precision)
    assert setup.device.type != "cpu", "these tests need an accelerator"
    return setup


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_training_lowers_the_loss_in_every_precision(make_trainer: Callable[..., Trainer], precision: str) -> None:
    trainer = make_trainer(engine=SingleDeviceEngine(accelerator(precision)), max_steps=200, eval_every=100)
    before = trainer._evaluate("val")
    assert trainer.fit() == "max_steps"
    assert before is not None
    assert trainer.finish()["val"]["loss"] < 0.3 * before["loss"]


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_a_run_that_is_stopped_and_resumed_gives_the_same_bits(
    make_trainer: Callable[..., Trainer], act: type, precision: str
) -> None:
    def make(folder: str, *callbacks: object) -> Trainer:
        engine = SingleDeviceEngine(accelerator(precision))
        return make_trainer(folder, engine=engine, callbacks=callbacks, dropout=0.3, micro_batch_size=1, num_workers=2)

    undisturbed = make("undisturbed")
    undisturbed.fit()
    stopped = make("stopped", act(6, lambda trainer: os.kill(os.getpid(), signal.SIGTERM)))
    assert stopped.fit() == "SIGTERM"
    resumed = make("stopped")
    resumed.resume()
    resumed.fit()
    for name, value in undisturbed.engine.module.state_dict().items():
        assert torch.equal(resumed.engine.module.state_dict()[name], value), name


def test_a_run_of_the_accelerator_resumes_on_the_cpu(make_trainer: Callable[..., Trainer]) -> None:
    make_trainer(engine=SingleDeviceEngine(accelerator("32")), max_steps=6).fit()
    resumed = make_trainer()
    resumed.resume()
    assert resumed.fit() == "max_steps"
    alone = make_trainer("alone")
    alone.fit()
    for name, value in alone.engine.module.state_dict().items():
        torch.testing.assert_close(resumed.engine.module.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_running_out_of_memory_says_what_to_lower() -> None:
    setup = accelerator("32")
    memory = describe(setup.device)["memory"]
    assert isinstance(memory, int)
    with (
        pytest.raises(DeviceError, match=r"out of memory.*lower trainer\.micro_batch_size"),
        explain_out_of_memory("lower trainer.micro_batch_size"),
    ):
        torch.empty(2 * memory, dtype=torch.uint8, device=setup.device)
