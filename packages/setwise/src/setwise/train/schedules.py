"""Learning-rate schedules: pure functions of the number of finished steps, so there is no state to save."""

from __future__ import annotations

import math
from collections.abc import Callable

from setwise.options import DecayOptions, WarmupOptions


def build_constant(options: WarmupOptions, *, num_steps: int, lr: float) -> Callable[[int], float]:
    """Linear warm-up, then ``lr``."""
    return _with_warmup(options, num_steps, lr, lambda share: 1.0)


def build_linear(options: DecayOptions, *, num_steps: int, lr: float) -> Callable[[int], float]:
    """Linear warm-up, then a straight line from ``lr`` to ``final_fraction * lr`` at the last step."""
    final = options.final_fraction
    return _with_warmup(options, num_steps, lr, lambda share: 1.0 - (1.0 - final) * share)


def build_cosine(options: DecayOptions, *, num_steps: int, lr: float) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine to ``final_fraction * lr`` (Loshchilov & Hutter, 2017)."""
    final = options.final_fraction
    return _with_warmup(
        options, num_steps, lr, lambda share: final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * share))
    )


def _with_warmup(
    options: WarmupOptions, num_steps: int, lr: float, after: Callable[[float], float]
) -> Callable[[int], float]:
    """Rise from ``lr / (warmup + 1)`` over ``warmup`` steps, then follow ``after``, given the share of the rest."""
    warmup = options.num_warmup_steps(num_steps)

    def schedule(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)
        return lr * after(min(1.0, (step - warmup) / max(1, num_steps - 1 - warmup)))

    return schedule
