"""Optimizers of torch, under the names recipes use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from setwise.options import AdamOptions, SGDOptions


def build_adam(options: AdamOptions, *, params: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba, 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(
        params, lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
    )


def build_adamw(options: AdamOptions, *, params: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019); weight decay is decoupled from the gradient."""
    return torch.optim.AdamW(
        params, lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
    )


def build_sgd(options: SGDOptions, *, params: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    return torch.optim.SGD(
        params, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov, weight_decay=options.weight_decay
    )


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameter groups an optimizer is built over.

    A model that wants other learning rates or weight decays for some of its parameters has a method
    ``parameter_groups() -> list[dict]`` in torch's format; any other model is one group. Schedules scale every
    group's learning rate by the same factor.
    """
    own = getattr(model, "parameter_groups", None)
    return own() if own is not None else [{"params": [p for p in model.parameters() if p.requires_grad]}]
