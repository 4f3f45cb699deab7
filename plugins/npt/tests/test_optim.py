"""LAMB and Lookahead against the published code."""

from __future__ import annotations

import pytest
import torch
from setwise_npt.config import LambOptions, LookaheadAdamOptions, LookaheadOptions
from setwise_npt.optim import Lamb, Lookahead, build_lamb, build_lookahead_adam
from torch import Tensor, nn


def test_parameters_after_every_step_equal_the_published_ones(optimiser_golden):
    config, tensors = optimiser_golden.config, optimiser_golden.tensors
    lookahead = LookaheadOptions(steps=config["lookahead_k"], alpha=config["lookahead_alpha"])
    options = LambOptions(
        lr=config["lr"],
        betas=tuple(config["betas"]),
        eps=config["eps"],
        weight_decay=config["weight_decay"],
        lookahead=lookahead if config["lookahead"] else None,
    )
    params = [nn.Parameter(tensors[f"p{i}.init"].clone()) for i in range(config["n_params"])]
    optimizer = build_lamb(options, params=[{"params": params}])
    for step in range(config["steps"]):
        for i, param in enumerate(params):
            param.grad = tensors[f"p{i}.grad.{step}"].clamp(-config["clip_value"], config["clip_value"])
        optimizer.step()
        for i, param in enumerate(params):
            torch.testing.assert_close(param.detach(), tensors[f"p{i}.after.{step}"], atol=1e-5, rtol=0)
