"""The suite of attentions passes a sound layer, and each of its tests fails on a layer with one fault, naming it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from setwise.attention import AbstractAttention
from setwise.config import Component, Options
from setwise.errors import ConfigError, SetwiseError, ShapeError
from setwise.plugin import AttentionSpec, Ref
from setwise.testing import AttentionSuite


class Sound(AbstractAttention):
    """Softmax attention with one head, in parts that a fault can replace."""

    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__()
        self.dim, self.causal = dim, causal
        self.invariances = frozenset({"padding", "translation", "causal" if causal else "permutation"})
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.register_buffer("offset", torch.randn(dim))

    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        if mask is not None and mask.dim() == 2:
            x = x.masked_fill(~mask[..., None], 0)
        q, k, v = self.qkv(x + self.offset).chunk(3, -1)
        return self.out(self.weigh(q @ k.mT * self.dim**-0.5, self.allowed(x, mask)) @ v)

    def allowed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tokens = x.shape[1]
        allowed = torch.ones(len(x), tokens, tokens, dtype=torch.bool)
        if self.causal:
            allowed = allowed.tril()
        if mask is not None:
            allowed = allowed & (mask[:, None, :] if mask.dim() == 2 else mask[:, 0])
        return allowed

    def weigh(self, scores: Tensor, allowed: Tensor) -> Tensor:
        sees = allowed.any(-1, keepdim=True)
        return scores.masked_fill(sees & ~allowed, -torch.inf).softmax(-1).masked_fill(~sees, 0)

    def init_cache(self, batch: int, max_tokens: int) -> Any:
        return {"seen": [], "room": max_tokens} if self.causal else super().init_cache(batch, max_tokens)

    def step(self, x_t: Tensor, cache: Any) -> Tensor:
        cache["seen"].append(x_t)
        seen = torch.cat(cache["seen"], dim=1)
        if seen.shape[1] > cache["room"]:
            raise ShapeError(f"there is room for {cache['room']} tokens")
        return self(seen)[:, -x_t.shape[1] :]


class WithDeadParameter(Sound):
    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.unused = nn.Parameter(torch.ones(dim))


class WithBlockedGradient(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x.detach(), **keywords)


class WithNormOverPadding(Sound):
    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(self.norm(x.nan_to_num(0, 0, 0).mT).mT, **keywords)


class IgnoringMask(Sound):
    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        return super().forward(x)


class MultiplyingGarbageByZero(Sound):
    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        as_pairs = None if mask is None or mask.dim() == 4 else mask[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        return super().forward(x, mask=mask if as_pairs is None else as_pairs)


class WithSoftmaxOverQueries(Sound):
    def weigh(self, scores: Tensor, allowed: Tensor) -> Tensor:
        return scores.softmax(-2).masked_fill(~allowed, 0)


class WithSoftmaxOverSets(Sound):
    def weigh(self, scores: Tensor, allowed: Tensor) -> Tensor:
        return scores.softmax(0).masked_fill(~allowed, 0)


class LookingOneAhead(Sound):
    def allowed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tokens = x.shape[1]
        return torch.ones(len(x), tokens, tokens, dtype=torch.bool).tril(1)


class DependingOnNumberOfTokens(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords) / x.shape[1]


class SteppingOnLastTokensOnly(Sound):
    def step(self, x_t: Tensor, cache: Any) -> Tensor:
        cache["seen"] = cache["seen"][-1:]
        return super().step(x_t, cache)


class WithOneCacheForAll(Sound):
    seen: ClassVar[list[Tensor]] = []

    def init_cache(self, batch: int, max_tokens: int) -> Any:
        self.seen.clear()
        return {"seen": self.seen, "room": 10 * max_tokens}


class WithEndlessCache(Sound):
    def init_cache(self, batch: int, max_tokens: int) -> Any:
        return {"seen": [], "room": 10 * max_tokens}


class DrawingFromTorch(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords) + 0 * torch.rand(())


class DrawingFromNumPy(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords) + 0 * np.random.rand()


class DrawingFromPython(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords) + random.random()


class DrawingFromTheMachine(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        generator = torch.Generator()
        generator.seed()
        return super().forward(x, **keywords) + torch.rand((), generator=generator)


class DroppingBuffer(Sound):
    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.register_buffer("offset", torch.randn(dim), persistent=False)


class WithGrowingState(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        if self.training:
            self.register_buffer("calls", torch.ones(()))
        return super().forward(x, **keywords)


class SharingMemory(Sound):
    shared = nn.Parameter(torch.ones(24))

    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.out.bias = self.shared


class RememberingForAll(Sound):
    means: ClassVar[list[Tensor]] = []

    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        if self.training:
            self.means.append(x.detach().mean())
        return super().forward(x, **keywords) + sum(self.means)


class CopyingItself(Sound):
    def __deepcopy__(self, memo: Any) -> Sound:
        return self


class ForgettingWhenCopied(Sound):
    def __deepcopy__(self, memo: Any) -> Sound:
        return ForgettingWhenCopied(self.dim, causal=self.causal).eval()


class WithInfiniteScores(Sound):
    def weigh(self, scores: Tensor, allowed: Tensor) -> Tensor:
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


class HidingInfiniteScores(Sound):
    def weigh(self, scores: Tensor, allowed: Tensor) -> Tensor:
        return (scores + allowed.float().log()).softmax(-1).nan_to_num(0)


class CountingTokens(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x + torch.arange(x.shape[1])[:, None] / 10, **keywords)


class AddingPositions(Sound):
    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        return super().forward(x if positions is None else x + positions[..., None] / 10, mask=mask)


class WritingToInput(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        with torch.no_grad():
            x += 1
        return super().forward(x, **keywords)


class WritingToMask(Sound):
    def allowed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        allowed = super().allowed(x, mask)
        if mask is not None:
            mask.logical_not_()
        return allowed


class AlwaysInSinglePrecision(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords).float()


class LosingDigits(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords) + 300 - 300


class ReturningWeightsToo(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Any:
        return super().forward(x, **keywords), None


class PoolingTokens(Sound):
    def forward(self, x: Tensor, **keywords: Any) -> Tensor:
        return super().forward(x, **keywords).mean(1)


class ClaimingTheUnknown(Sound):
    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.invariances = frozenset({"rotation"})


class NotClaimingCausality(Sound):
    def __init__(self, dim: int, *, causal: bool) -> None:
        super().__init__(dim, causal=causal)
        self.invariances = frozenset()


class RefusingPairs(Sound):
    def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        if mask is not None and mask.dim() == 4:
            raise ShapeError("masks are (batch, tokens)")
        return super().forward(x, mask=mask)


def suite_of(layer: type[Sound], *, causal: bool = False) -> AttentionSuite:
    class Suite(AttentionSuite):
        def build(self) -> AbstractAttention:
            return layer(self.dim, causal=self.causal)

    Suite.causal = causal
    return Suite()


class TestSound(AttentionSuite):
    def build(self) -> AbstractAttention:
        return Sound(self.dim, causal=self.causal)


class TestSoundCausal(TestSound):
    causal = True


class Fault(NamedTuple):
    """A layer that breaks a promise, what a test of the suite has to say of it, and what that test is called with."""

    layer: type[Sound]
    words: str
    arguments: Mapping[str, Any] = {}
    causal: bool = False


FAULTS = {
    "test_output_has_the_shape_and_dtype_of_the_input": [
        Fault(ReturningWeightsToo, "must return one tensor, got tuple"),
        Fault(PoolingTokens, "(3, 7, 24) became ... (3, 24)"),
    ],
    "test_claims_are_known_and_registered": [
        Fault(ClaimingTheUnknown, "unknown invariances ['rotation']"),
        Fault(NotClaimingCausality, 'built with causal=True, the layer does not claim "causal"', causal=True),
    ],
    "test_gradients_are_finite_and_reach_every_parameter": [
        Fault(WithDeadParameter, "no gradient reaches the parameter unused"),
        Fault(WithBlockedGradient, "the gradient of the input is not finite, or zero"),
    ],
    "test_state_survives_a_checkpoint": [
        Fault(DroppingBuffer, "state_dict() must hold all that the output depends on"),
        Fault(WithGrowingState, 'state_dict does not fit ... "calls"'),
    ],
    "test_instances_share_no_state": [
        Fault(SharingMemory, "two layers share the memory of out.bias"),
        Fault(RememberingForAll, "using one layer changed another"),
    ],
    "test_copy_is_equal_and_independent": [
        Fault(CopyingItself, "training a deep copy of the layer changed the original"),
        Fault(ForgettingWhenCopied, "a deep copy of the layer computes something else"),
    ],
    "test_arguments_are_not_written_to": [
        Fault(WritingToInput, "a layer must not write to its arguments: at [0]"),
        Fault(WritingToMask, "a layer must not write to its arguments: at [2]"),
    ],
    "test_evaluation_is_deterministic_and_uses_no_global_randomness": [
        Fault(DrawingFromTorch, "must use no global randomness, it drew from or seeded that of torch"),
        Fault(DrawingFromNumPy, "must use no global randomness, it drew from or seeded that of NumPy"),
        Fault(DrawingFromPython, "must not depend on global randomness, it does on that of Python"),
        Fault(DrawingFromTheMachine, "a layer in evaluation mode must give one result, two calls differ"),
    ],
    "test_float64_is_kept_and_agrees": [Fault(AlwaysInSinglePrecision, "in float64 returned torch.float32")],
    "test_bf16_is_finite_and_close": [Fault(LosingDigits, "the output in bf16-mixed precision is off")],
    "test_sets_of_a_batch_do_not_see_each_other": [Fault(WithSoftmaxOverSets, "must not see each other")],
    "test_pairwise_mask_is_obeyed_or_refused": [Fault(IgnoringMask, "the mask is ignored")],
    "test_permuted_tokens_give_permuted_outputs": [Fault(CountingTokens, '"permutation" is claimed, but')],
    "test_padding_never_reaches_real_tokens": [
        Fault(IgnoringMask, '"padding" is claimed, but in training an output changes', {"garbage": 1e3}),
        Fault(WithNormOverPadding, '"padding" is claimed, but in training an output changes', {"garbage": 1e3}),
        Fault(MultiplyingGarbageByZero, "changes when padding holds nan", {"garbage": float("nan")}),
    ],
    "test_amount_of_padding_changes_nothing": [
        Fault(WithSoftmaxOverQueries, '"padding" is claimed, but outputs differ between a padded set'),
    ],
    "test_tokens_with_nothing_to_attend_are_finite": [
        Fault(WithInfiniteScores, "nothing to attend is not finite", {"seen": "nothing"}),
        Fault(WithInfiniteScores, "nothing to attend is not finite", {"seen": "the last token"}, causal=True),
        Fault(HidingInfiniteScores, "the gradient of qkv.weight is not finite where", {"seen": "nothing"}),
    ],
    "test_later_tokens_never_change_earlier_outputs": [
        Fault(LookingOneAhead, '"causal" is claimed, but ... when other tokens follow', causal=True),
        Fault(WithSoftmaxOverQueries, '"causal" is claimed, but ... when other tokens follow', causal=True),
        Fault(DependingOnNumberOfTokens, '"causal" is claimed, but ... when no tokens follow', causal=True),
    ],
    "test_step_equals_forward": [
        Fault(SteppingOnLastTokensOnly, "step() differs from forward() at tokens 2", {"chunk": 1}, causal=True),
    ],
    "test_caches_are_independent_and_refuse_what_does_not_fit": [
        Fault(WithOneCacheForAll, "two caches of one layer share state", causal=True),
        Fault(WithEndlessCache, "step() with a full cache must raise SetwiseError; nothing was raised", causal=True),
    ],
    "test_shifted_positions_change_nothing": [Fault(AddingPositions, '"translation" is claimed, but')],
}


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        pytest.param(test, fault, id=f"{fault.layer.__name__}-{test}")
        for test, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_fault_is_found_and_named(test: str, fault: Fault, expect_bite: Callable[..., None]) -> None:
    RememberingForAll.means.clear()
    expect_bite(suite_of(fault.layer, causal=fault.causal), test, fault.words, **fault.arguments)


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    assert FAULTS.keys() == tests_of(AttentionSuite)


class EmptyOptions(Options):
    pass


def test_claim_that_is_not_registered_is_found(expect_bite: Callable[..., None]) -> None:
    class Suite(AttentionSuite):
        name = "mine/sound"

        def component(self) -> Component:
            refs = Ref("nowhere:build"), Ref("nowhere:Options")
            spec = AttentionSpec("sound", *refs, "Sound", invariances=frozenset({"padding", "causal"}))
            return Component("attentions", self.name, EmptyOptions(), spec)

        def build(self) -> AbstractAttention:
            return Sound(self.dim, causal=self.causal)

    expect_bite(Suite(), "test_claims_are_known_and_registered", "claims ['permutation', 'translation'], which its")


@pytest.mark.parametrize(
    ("test", "arguments", "reason"),
    [
        ("test_pairwise_mask_is_obeyed_or_refused", {}, "takes no pairwise masks"),
        (
            "test_tokens_with_nothing_to_attend_are_finite",
            {"seen": "a pairwise mask without one row"},
            "takes no pairwise masks",
        ),
        ("test_later_tokens_never_change_earlier_outputs", {}, 'does not claim "causal"'),
    ],
)
def test_what_a_layer_does_not_claim_is_skipped(
    test: str, arguments: dict[str, Any], reason: str, run_suite_test: Callable[..., None]
) -> None:
    with pytest.raises(pytest.skip.Exception, match=reason):
        run_suite_test(suite_of(RefusingPairs), test, **arguments)


def test_padding_mask_may_not_be_refused_by_who_claims_padding(run_suite_test: Callable[..., None]) -> None:
    class RefusingAll(Sound):
        def forward(self, x: Tensor, *, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
            if mask is not None:
                raise ShapeError("no masks")
            return super().forward(x)

    with pytest.raises(SetwiseError, match="no masks"):
        run_suite_test(suite_of(RefusingAll), "test_tokens_with_nothing_to_attend_are_finite", seen="nothing")


def test_suite_that_names_nothing_says_so() -> None:
    with pytest.raises(ConfigError, match="set its attribute name, or override"):
        AttentionSuite().test_float64_is_kept_and_agrees()
