"""Overhead of the Trainer: its CPU time per step beside a hand-written loop that does the same work.

Both take the same batches from the same data module and do forward, backward, clipping, an AdamW step and a cosine
learning rate. The Trainer also logs, minds signals, seeds dropout and writes one checkpoint at the end; the loop does
none of that. Run it alone: ``python bench_trainer.py``.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from setwise.config import load_config
from setwise.device import configure, resolve_setup
from setwise.train.engine import SingleDeviceEngine
from setwise.train.runs import RunFolder
from setwise.train.session import build_trainer

BUDGET = 1.3
REPEATS = 5
SHAPES = {  # width, layers, batch size, steps
    "tiny (dim 8, 1 layer, batch 16)": (8, 1, 16, 1000),
    "small (dim 48, 2 layers, batch 64)": (48, 2, 64, 250),
}
RECIPE = """
model: {{name: setwise/encoder, dim: {dim}, num_layers: {num_layers}, patch_size: 2}}
data: {{name: setwise/digits}}
task: {{name: setwise/classification}}
optimizer: {{name: setwise/adamw, lr: 1.0e-3}}
schedule: {{name: setwise/cosine}}
trainer:
  {{max_steps: {steps}, batch_size: {batch_size}, eval_every: {steps}, eval_splits: [], clip_norm: 1.0,
   device: cpu, precision: "32", deterministic: false}}
"""


def main() -> None:
    """Print CPU milliseconds per step of both, medians of alternating repeats, and their ratio."""
    torch.set_num_threads(1)
    print(f"{'model':36} {'loop ms':>9} {'Trainer ms':>11} {'ratio':>6}   (budget {BUDGET})")
    for label, (dim, num_layers, batch_size, steps) in SHAPES.items():
        text = RECIPE.format(dim=dim, num_layers=num_layers, batch_size=batch_size, steps=steps)
        by_hand, by_trainer = [], []
        for _ in range(REPEATS):
            by_hand.append(time_loop(text, batch_size, steps))
            by_trainer.append(time_trainer(text, steps))
        hand, ours = statistics.median(by_hand), statistics.median(by_trainer)
        print(f"{label:36} {hand:9.3f} {ours:11.3f} {ours / hand:6.2f}")


def time_trainer(text: str, steps: int) -> float:
    """Return CPU milliseconds per step of ``Trainer.fit``, its final checkpoint included."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(text, Path(folder))
        started = time.process_time()
        trainer.fit()
        return (time.process_time() - started) / steps * 1e3


def time_loop(text: str, batch_size: int, steps: int) -> float:
    """Return CPU milliseconds per step of a loop as one would write it by hand."""
    with tempfile.TemporaryDirectory() as folder, configure(tf32=True, deterministic=False):
        trainer = make_trainer(text, Path(folder))
        data, model, optimizer = trainer.data, trainer.engine.module, trainer.engine.optimizer
        started = time.process_time()
        step = 0
        for epoch in range(steps):
            order = np.asarray(data.order("train", epoch))
            for start in range(0, len(order), batch_size):
                if step == steps:
                    return (time.process_time() - started) / steps * 1e3
                batch = data.batch("train", epoch, order[start : start + batch_size])
                loss = F.cross_entropy(model(image=batch["image"]), batch["label"])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / (steps - 1)))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
    raise AssertionError("the loop ended before its last step")


def make_trainer(text: str, folder: Path):
    """Return a fresh Trainer of the recipe, whose parts the loop uses too."""
    engine = SingleDeviceEngine(resolve_setup("cpu", "32"))
    return build_trainer(load_config(text), engine=engine, run=RunFolder(folder))


if __name__ == "__main__":
    main()
