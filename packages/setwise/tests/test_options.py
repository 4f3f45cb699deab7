"""Options of core that depend on each other."""

import pytest
from pydantic import ValidationError

from setwise.options import DecayOptions, MultiHeadOptions, SGDOptions, WarmupOptions


@pytest.mark.parametrize(("options", "steps"), [({}, 0), ({"warmup_steps": 7}, 7), ({"warmup_fraction": 0.25}, 5)])
def test_warmup_is_given_in_steps_or_as_a_share(options: dict[str, float], steps: int):
    assert WarmupOptions.model_validate(options).num_warmup_steps(20) == steps


INCONSISTENT = [
    (
        DecayOptions,
        {"warmup_steps": 3, "warmup_fraction": 0.1},
        "warmup_steps and warmup_fraction are both given; keep one of them",
    ),
    (SGDOptions, {"lr": 0.1, "nesterov": True}, "nesterov=true needs momentum; set momentum, for example to 0.9"),
    (
        MultiHeadOptions,
        {"num_heads": 6, "num_kv_heads": 4},
        "num_kv_heads=4 must divide num_heads=6; try 1, 2, 3, 6",
    ),
    (MultiHeadOptions, {"rope": True, "head_dim": 5}, "rope=true turns pairs of numbers, so head_dim=5 must be even"),
]


@pytest.mark.parametrize(("options", "values", "message"), INCONSISTENT)
def test_options_must_fit_together(options: type[WarmupOptions], values: dict[str, object], message: str):
    with pytest.raises(ValidationError) as caught:
        options.model_validate(values)

    assert caught.value.errors()[0]["msg"] == f"Value error, {message}"
