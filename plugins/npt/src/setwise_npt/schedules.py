"""Learning-rate schedules of the Non-Parametric Transformer, as closed forms (appendix E.3 and the published code).

Each builder returns a function of ``step``, the number of finished optimizer steps, that gives the learning rate of
the next one. Throughout, T is the number of all steps, w that of the warm-up, and k is ``step``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from setwise_npt.config import FlatAndAnnealOptions, WarmupOptions

Schedule = Callable[[int], float]
_LAST_LR = 1e-7


def flat_and_anneal(options: FlatAndAnnealOptions, *, num_steps: int, lr: float) -> Schedule:
    """The full learning rate for a share p of the steps, then half a cosine towards zero.

    With F = floor(pT - 1) and A = int(T (1 - p)), the rate is ``lr`` for k <= pT - 1 and for k = 0, and
    ``lr / 2 (1 + cos(pi (k - F) / A))`` after. As in the published code zero is met a step or two before the end and
    the last rates rise above it again.

    Example:
        >>> schedule = flat_and_anneal(FlatAndAnnealOptions(flat=0.5), num_steps=40, lr=1.0)
        >>> schedule(0), schedule(19), round(schedule(29), 6)
        (1.0, 1.0, 0.5)
    """
    last_flat = options.flat * num_steps - 1
    # With less than one step to anneal in, a length of one takes that step to zero.
    length = max(1, int(num_steps * (1 - options.flat)))

    def schedule(step: int) -> float:
        if step == 0 or step <= last_flat:
            return lr
        return lr / 2 * (1 + math.cos(math.pi * (step - math.floor(last_flat)) / length))

    return schedule


def linear_warmup(options: WarmupOptions, *, num_steps: int, lr: float) -> Schedule:
    """A linear rise ``lr k / w`` during the warm-up, then a linear fall ``lr (T - k) / (T - w)``."""
    warmup = _warmup(options, num_steps)

    def schedule(step: int) -> float:
        if step < warmup:
            return lr * step / warmup
        return lr * max(0.0, _remaining(step, num_steps, warmup))

    return schedule


def polynomial_decay_warmup(options: WarmupOptions, *, num_steps: int, lr: float) -> Schedule:
    """A linear rise ``lr k / w`` during the warm-up, then a fall of power 1 from ``lr`` to 1e-7."""
    warmup = _warmup(options, num_steps)

    def schedule(step: int) -> float:
        if step < warmup:
            return lr * step / warmup
        return (lr - _LAST_LR) * max(0.0, _remaining(step, num_steps, warmup)) + _LAST_LR

    return schedule


def cosine_cyclic(options: WarmupOptions, *, num_steps: int, lr: float) -> Schedule:
    """A linear rise from 1e-7, then cosine cycles, each twice as long and half as high as the one before.

    The first cycle is 2w long. (Loshchilov & Hutter, 2017, as configured by the published code.)
    """
    warmup = _warmup(options, num_steps)

    def schedule(step: int) -> float:
        if step < warmup:
            return _LAST_LR + step * (lr - _LAST_LR) / warmup
        period = max(2 * warmup, 1.0)
        cycle = math.floor(math.log2(1 + (step - warmup) / period))
        place = step - warmup - (2**cycle - 1) * period
        shrink = 2.0**-cycle
        cosine = 1 + math.cos(math.pi * place / (2**cycle * period))
        return _LAST_LR * shrink + (lr - _LAST_LR) * shrink / 2 * cosine

    return schedule


def _warmup(options: WarmupOptions, num_steps: int) -> float:
    return options.warmup * num_steps if options.warmup_steps is None else float(options.warmup_steps)


def _remaining(step: int, num_steps: int, warmup: float) -> float:
    """The share of the steps after the warm-up that is left."""
    return (num_steps - step) / (num_steps - warmup) if num_steps > warmup else 0.0
