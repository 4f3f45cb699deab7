"""CPU time and memory of NPT beside its reference path and the published code.

A training step is all of it: drawing masks, forward, losses, backward, clipping, LAMB and Lookahead, with the
breast-cancer table as one set. ``ours`` is the default, ``reference`` the same model with ``backend: reference``, which
materialises the attention weights as the published code does. The original's figures are those of a study of it, one
thread of a CPU like the one this was written on. Run it alone: ``python bench_npt.py``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from setwise.config import load_config
from setwise.device import configure, peak_memory, resolve_setup
from setwise.tasks.task import StepContext
from setwise.train.engine import SingleDeviceEngine
from setwise.train.runs import RunFolder
from setwise.train.session import build_trainer
from setwise_npt.columns import Columns
from setwise_npt.config import NptOptions
from setwise_npt.model import NonParametricTransformer

# Runs of the study: model options, steps timed, and the original's CPU seconds per step.
RUNS = {
    "C (E=16, 4 layers, 4 heads)": ("column_dim: 16, num_layers: 4, num_heads: 4", 20, 0.490),
    "B (E=32, 8 layers, 8 heads)": ("column_dim: 32, num_layers: 8, num_heads: 8", 5, 2.37),
}
RECIPE = """
model: {{name: npt/npt, {model}, backend: {backend}}}
data: {{name: setwise/table, sklearn: breast_cancer, folds: 10, val_fraction: 0.2, set_size: all, transductive: true}}
task: {{name: npt/masked-modelling, tradeoff: 1.0}}
optimizer: {{name: npt/lamb}}
trainer: {{max_steps: 100, clip_value: 1.0}}
"""
# The default model on tables of 12 columns, each in a process of its own and before memory is used here: what a
# process has used at most counts as used by those it starts.
TABLES = ((1024, "auto"), (1024, "reference"), (4096, "auto"))
ORIGINAL_ROWS, ORIGINAL_TABLE = 4096, "35.8 s, 10.66 GB"
WARM_UP = 2


def main() -> None:
    """Print the time and memory of a forward and backward pass, then the time of a training step."""
    torch.set_num_threads(1)
    print(f"{'forward + backward, 12 columns':30} {'path':10} {'CPU s':>8} {'peak GB':>8} {'original':>18}")
    for rows, backend in TABLES:
        command = [sys.executable, __file__, "--table", str(rows), backend]
        seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        original = ORIGINAL_TABLE if rows == ORIGINAL_ROWS else ""
        print(f"{rows:>25} rows {backend:10} {float(seconds):8.2f} {float(peak):8.2f} {original:>18}")
    precisions = ["32"] + (["bf16-mixed"] if _computes_bf16() else [])
    print(f"\n{'training step, 569 x 31':30} {'precision':10} {'ours s':>8} {'reference s':>12}", end="")
    print(f" {'original s':>11} {'original / ours':>16}")
    for label, (model, steps, original) in RUNS.items():
        for precision in precisions:
            ours, reference = (time_step(model, backend, precision, steps) for backend in ("auto", "reference"))
            print(f"{label:30} {precision:10} {ours:8.3f} {reference:12.3f} {original:11.3f} {original / ours:16.2f}")


def time_step(model: str, backend: str, precision: str, steps: int) -> float:
    """Return the median CPU seconds of a training step."""
    with tempfile.TemporaryDirectory() as folder, configure(tf32=True, deterministic=True):
        engine = SingleDeviceEngine(resolve_setup("cpu", precision))
        config = load_config(RECIPE.format(model=model, backend=backend))
        trainer = build_trainer(config, engine=engine, run=RunFolder(Path(folder)))
        data, task = trainer.data, trainer.task
        engine.module.train()

        def step(number: int) -> None:
            batch = data.batch("train", number, [0])
            ctx = StepContext(number, number, number / 100, "train", True, 0, [0])
            with engine.autocast():
                output = task.step(engine.model, batch, ctx)
            engine.backward(output.loss_sum / output.weight)
            engine.apply_gradients(None, clip_norm=None, clip_value=1.0)

        return statistics.median(_cpu_seconds(step, number) for number in range(WARM_UP + steps))


def measure_table(rows: int, backend: str) -> None:
    """Print the CPU seconds and the peak memory in GB of one forward and backward pass, in a process of its own."""
    torch.set_num_threads(1)
    columns = Columns(sizes=(0,) * 11 + (2,), targets=(11,))
    model = NonParametricTransformer(columns, NptOptions.model_validate({"backend": backend}))
    values, codes = torch.randn(1, rows, 12), torch.zeros(1, rows, 12, dtype=torch.int64)
    masked = torch.rand(1, rows, 12) < 0.15

    def run(number: int) -> None:
        outputs = model(values, codes, masked)
        sum(output.square().mean() for output in (outputs.numeric, *outputs.categorical)).backward()

    with configure(tf32=True, deterministic=True):
        seconds = _cpu_seconds(run, 0)
    print(seconds, (peak_memory(torch.device("cpu")) or 0) / 1e9)


def _cpu_seconds(run: Callable[[int], None], number: int) -> float:
    started = time.process_time()
    run(number)
    return time.process_time() - started


def _computes_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in instructions of its own; torch has no public question for this."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and supported()


if __name__ == "__main__":
    if "--table" in sys.argv:
        measure_table(int(sys.argv[2]), sys.argv[3])
    else:
        main()
