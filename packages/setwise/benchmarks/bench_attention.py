"""Time and memory of `attend` against plain operations, forward and backward, as layers call it.

Queries, keys and values are views of what projections return, and heads are joined afterwards; numerics are those of
training. Times are CPU milliseconds, the least of twelve taken in turns, as other processes only add to them; of the
large set they are those of a single run. Memory is what the process grows by at most.
Run with OMP_NUM_THREADS=1 on a shared machine.
"""

import ctypes
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from setwise.attention import attend
from setwise.attention.functional import Backend, choose_backend
from setwise.device import autocast, configure, describe


class Case(NamedTuple):
    name: str
    batch: int
    heads: int
    tokens: int
    head_dim: int
    causal: bool = False


CASES = [
    Case("rows of a table", 1, 4, 569, 124),
    Case("rows of a table", 1, 8, 569, 248),
    Case("columns of a table", 569, 4, 31, 4),
    Case("columns of a table", 569, 8, 31, 8),
    Case("language model", 4, 8, 512, 64, causal=True),
    Case("large set", 1, 8, 4096, 96),
]
CPU = torch.device("cpu")
MOST_TOKENS_REPEATED = 1000
ON_LINUX = sys.platform == "linux"


def make_step(case: Case, precision: str, dropout: float, backend: Backend) -> Callable[[], None]:
    """Return a forward and backward pass over tensors of its own."""
    width = case.heads * case.head_dim
    x = [torch.randn(case.batch, case.tokens, width, requires_grad=True) for _ in range(3)]
    upstream = torch.randn(case.batch, case.tokens, width)

    def step() -> None:
        with autocast(CPU, precision):
            q, k, v = (y.unflatten(-1, (case.heads, -1)).transpose(1, 2) for y in x)
            out = attend(q, k, v, causal=case.causal, dropout=dropout, backend=backend)
        joined = out.transpose(1, 2).flatten(2)
        joined.backward(upstream.to(joined.dtype))

    return step


def milliseconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return (time.process_time() - start) * 1e3


def milliseconds_and_growth(step: Callable[[], None]) -> tuple[float, float]:
    """Return the time of a step, and by how many MiB the process grows at most (NaN if not on Linux)."""
    if not ON_LINUX:
        return milliseconds(step), math.nan
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = resident("VmRSS")
    return milliseconds(step), (resident("VmHWM") - before) / 1024


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def compare(case: Case, precision: str, dropout: float) -> float:
    """Print a line of the table and return how many times faster `auto` is than the reference."""
    ours, reference = (make_step(case, precision, dropout, backend) for backend in ("auto", "reference"))
    (our_time, our_memory), (reference_time, reference_memory) = map(milliseconds_and_growth, (ours, reference))
    if case.tokens <= MOST_TOKENS_REPEATED:
        our_times, reference_times = [], []
        for turn in range(12):
            both = [(ours, our_times), (reference, reference_times)]
            for step, times in both if turn % 2 else reversed(both):
                times.append(milliseconds(step))
        our_time, reference_time = min(our_times), min(reference_times)
    num_scores = case.batch * case.heads * case.tokens**2
    shape = f"{case.batch} x {case.heads} x {case.tokens} x {case.head_dim}"
    backend = choose_backend(CPU, num_scores=num_scores, plain=not case.causal and not dropout)
    print(
        f"{case.name:18} {shape:18} {precision:10} {dropout:7} {backend:9} {our_time:8.1f} {reference_time:9.1f} "
        f"{reference_time / our_time:6.2f} {our_memory:7.0f} {reference_memory:6.0f}",
        flush=True,
    )
    return reference_time / our_time


def main() -> None:
    facts = describe(CPU)
    print(f"attend, forward and backward; torch {facts['torch']}, {facts['name']}, {torch.get_num_threads()} thread(s)")
    print("                   batch x heads x                       backend         milliseconds            MiB held")
    print("                   tokens x head_dim  precision  dropout of auto       auto reference  ratio    auto   ref.")
    torch.manual_seed(0)
    with configure(tf32=True, deterministic=True):
        make_step(CASES[0], "32", 0.0, "auto")()  # what happens once should not count
        ratios = [
            compare(case, precision, dropout)
            for case in CASES
            for precision in ("32", "bf16-mixed")
            for dropout in (0.0, 0.1)
        ]
    print(f"ratio: least {min(ratios):.2f}, median {statistics.median(ratios):.2f}, most {max(ratios):.2f}")


if __name__ == "__main__":
    main()
