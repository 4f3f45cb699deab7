"""LAMB as the published code of NPT has it, and Lookahead around any optimizer."""

# torch has no public names for its operations on many tensors at once.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from setwise_npt.config import LambOptions, LookaheadAdamOptions, LookaheadOptions


class Lamb(Optimizer):
    r"""LAMB without bias correction (You et al., 2020, version 3 of the paper). For every parameter tensor

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        u = m / (\sqrt{v} + \epsilon) + \lambda p \\
        p \leftarrow p - \eta\, \frac{\min(\lVert p \rVert, c)}{\lVert u \rVert}\, u

    where the trust ratio counts as 1 if either norm is 0. Nothing waits for the device.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the gradient's mean and mean square.
        eps: added to the root of the mean square.
        weight_decay: the lambda above.
        max_norm: the c above.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = Lamb([weight], lr=0.1)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> weight.detach()  # a step of length lr * norm, against the signs of the gradient
        tensor([2.6464, 3.6464])
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_norm: float = 10.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_norm": max_norm}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients anew; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            # On a CPU a tensor stays in the cache while one operation after the other goes over it.
            on_cpu = all(p.device.type == "cpu" for p in params)
            for together in [[p] for p in params] if on_cpu else [params]:
                self._update(together, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        beta_mean, beta_square = group["betas"]
        for p in params:
            if "mean" not in self.state[p]:
                self.state[p].update(mean=torch.zeros_like(p), mean_square=torch.zeros_like(p))
        gradients = [p.grad for p in params if p.grad is not None]
        means = [self.state[p]["mean"] for p in params]
        squares = [self.state[p]["mean_square"] for p in params]
        torch._foreach_lerp_(means, gradients, 1 - beta_mean)
        torch._foreach_mul_(squares, beta_square)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta_square)
        updates = torch._foreach_sqrt(squares)
        torch._foreach_add_(updates, group["eps"])
        torch._foreach_reciprocal_(updates)
        torch._foreach_mul_(updates, means)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        weight_norms = torch.stack(torch._foreach_norm(params))
        update_norms = torch.stack(torch._foreach_norm(updates))
        ratios = weight_norms.clamp(max=group["max_norm"]) / update_norms
        ratios = torch.where((weight_norms > 0) & (update_norms > 0), ratios, 1.0)
        torch._foreach_mul_(updates, list((-group["lr"] * ratios).unbind()))
        torch._foreach_add_(params, updates)


class Lookahead(Optimizer):
    r"""Let slow weights follow the fast ones of another optimizer (Zhang et al., 2019). Every ``steps`` steps

    .. math:: s \leftarrow s + \alpha (p - s), \quad p \leftarrow s

    The slow weights are part of the inner optimizer's state, so :meth:`state_dict` is complete.

    Args:
        inner: the optimizer of the fast weights, new; its groups and state are shared.
        steps: steps from sync to sync.
        alpha: how far the slow weights move at a sync.
        start: ``"initial"``: the slow weights start as the initial ones. ``"first_sync"``, as in the published code:
            they start as the fast ones at the first sync, which then changes nothing.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = Lookahead(torch.optim.SGD([weight], lr=1.0), steps=2, start="initial")
        >>> for _ in range(2):
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> weight.item()  # half of the way to -2
        -1.0
    """

    def __init__(
        self,
        inner: Optimizer,
        *,
        steps: int = 6,
        alpha: float = 0.5,
        start: Literal["first_sync", "initial"] = "first_sync",
    ) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner, self.steps, self.alpha, self.start = inner, steps, alpha, start
        for group in inner.param_groups:
            group["lookahead_step"] = 0
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step the inner optimizer, and sync when it is time.

        Args:
            closure: computes the loss and its gradients anew; its value is returned.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        # Kept aside until after the step: optimizers of torch take a state that is not empty for one of their own.
        initial = {}
        if self.start == "initial":
            initial = {p: p.detach().clone() for p in params if "slow" not in self.state[p]}
        loss = self.inner.step(closure)
        for group in self.param_groups:
            group["lookahead_step"] += 1
        moved = [p for p in params if p.grad is not None or "slow" in self.state[p]]
        is_sync = self.param_groups[0]["lookahead_step"] % self.steps == 0
        for p in moved if initial or is_sync else ():
            if "slow" not in self.state[p]:
                self.state[p]["slow"] = initial[p] if initial else p.detach().clone()
        if is_sync and moved:
            slow = [self.state[p]["slow"] for p in moved]
            torch._foreach_lerp_(slow, moved, self.alpha)
            for p in moved:
                p.copy_(self.state[p]["slow"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.inner.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Have the inner optimizer's groups and state as one's own; it makes new ones when it loads."""
        self.param_groups, self.state = self.inner.param_groups, self.inner.state


def build_lamb(options: LambOptions, *, params: list[dict[str, Any]]) -> Optimizer:
    """Build the optimizer that a recipe names ``npt/lamb``: LAMB, by default inside Lookahead."""
    lamb = Lamb(
        params,
        lr=options.lr,
        betas=options.betas,
        eps=options.eps,
        weight_decay=options.weight_decay,
        max_norm=options.max_norm,
    )
    return lamb if options.lookahead is None else _with_lookahead(lamb, options.lookahead)


def build_lookahead_adam(options: LookaheadAdamOptions, *, params: list[dict[str, Any]]) -> Optimizer:
    """Build the optimizer that a recipe names ``npt/lookahead-adam``."""
    adam = Adam(params, lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay)
    return _with_lookahead(adam, options.lookahead)


def _with_lookahead(inner: Optimizer, options: LookaheadOptions) -> Lookahead:
    return Lookahead(inner, steps=options.steps, alpha=options.alpha, start=options.start)
