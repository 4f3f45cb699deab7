"""The conformance suite of attention layers."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from setwise.attention import AbstractAttention
from setwise.device import autocast
from setwise.errors import SetwiseError
from setwise.plugin import AttentionSpec
from setwise.testing.claims import expect, expect_close, expect_equal, expect_error
from setwise.testing.component import AbstractComponentSuite
from setwise.testing.modules import (
    expect_apart,
    expect_finite_gradients,
    expect_gradients_everywhere,
    leave_initial_point,
    load_through_checkpoint,
    train_a_little,
)
from setwise.testing.randomness import expect_no_global_randomness, seeded


class AttentionSuite(AbstractComponentSuite):
    """What every attention layer promises, and each of its ``invariances``.

    A test of what the layer does not claim is skipped.

    Attributes:
        name: name of a registered attention; or override :meth:`build`.
        options: its options, as in a recipe.
        dim: width of the tokens.
        causal: whether the layer is built to be causal.
        num_sets: sets of a batch.
        num_tokens: tokens of a set.
        other_num_tokens: what the layer also has to take; empty for one that is built for a number of tokens.
        shifts: what is added to all positions, where "translation" is claimed.
        without_gradient: names or patterns of parameters that the output does not depend on by construction.
        tolerance: rounding allowed in float32, as a share of the largest output.
        bf16_tolerance: rounding allowed in bf16-mixed precision.

    Example:
        >>> class TestGrouped(AttentionSuite):
        ...     name = "setwise/mha"
        ...     options = {"num_heads": 4, "num_kv_heads": 2}
        >>> TestGrouped().test_permuted_tokens_give_permuted_outputs()
    """

    kind = "attentions"
    dim: ClassVar[int] = 24
    causal: ClassVar[bool] = False
    num_sets: ClassVar[int] = 3
    num_tokens: ClassVar[int] = 7
    other_num_tokens: ClassVar[tuple[int, ...]] = (1, 11)
    shifts: ClassVar[tuple[int, ...]] = (1, 13)
    without_gradient: ClassVar[Collection[str]] = ()
    tolerance: ClassVar[float] = 1e-5
    bf16_tolerance: ClassVar[float] = 0.05

    def build(self) -> AbstractAttention:
        """Return a new layer for tokens of width ``dim``."""
        return self.component().build(dim=self.dim, causal=self.causal)

    def positions(self, num_sets: int, num_tokens: int) -> Tensor:
        """Return where the tokens are, (sets, tokens) or (sets, tokens, axes); the default counts them."""
        return torch.arange(num_tokens).expand(num_sets, num_tokens)

    def layer(self, *, seed: int = 0) -> AbstractAttention:
        """Return a new layer in evaluation mode, whose weights are drawn with a seed."""
        with seeded(seed):
            return self.build().eval()

    def inputs(self, *, seed: int = 0, num_tokens: int | None = None) -> Float[Tensor, "sets tokens dim"]:
        """Return random tokens."""
        shape = self.num_sets, num_tokens or self.num_tokens, self.dim
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def run(
        self,
        layer: AbstractAttention,
        x: Float[Tensor, "sets tokens dim"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Call the layer with positions, and with the same randomness of dropout at every call."""
        with seeded(0):
            return layer(x, mask=mask, positions=self.positions(*x.shape[:2]) if positions is None else positions)

    def test_output_has_the_shape_and_dtype_of_the_input(self) -> None:
        """(batch, tokens, dim) goes to (batch, tokens, dim), all of it finite, with positions and without."""
        layer = self.layer()
        for num_tokens in (self.num_tokens, *self.other_num_tokens):
            x = self.inputs(num_tokens=num_tokens)
            for positions in (None, self.positions(*x.shape[:2])):
                out = layer(x, positions=positions)
                expect(isinstance(out, Tensor), f"a layer must return one tensor, got {type(out).__name__}")
                same = (out.shape, out.dtype) == (x.shape, x.dtype)
                expect(same, f"{x.dtype} {tuple(x.shape)} became {out.dtype} {tuple(out.shape)}; both must stay")
                expect(bool(out.isfinite().all()), f"the output for {num_tokens} tokens is not finite everywhere")

    def test_claims_are_known_and_registered(self) -> None:
        """A layer claims what its record lists, at most, and "causal" when it was asked to be causal."""
        claims = self.layer().invariances
        unknown = sorted(claims - AbstractAttention.INVARIANCES)
        expect(not unknown, f"unknown invariances {unknown}; allowed: {sorted(AbstractAttention.INVARIANCES)}")
        kept = "causal" in claims or not self.causal
        expect(kept, 'built with causal=True, the layer does not claim "causal"; refuse causal instead')
        if self.name:
            spec = self.component().spec
            registered = spec.invariances if isinstance(spec, AttentionSpec) else frozenset()
            missing = sorted(claims - registered)
            expect(not missing, f"the layer claims {missing}, which its AttentionSpec does not list in invariances")

    def test_gradients_are_finite_and_reach_every_parameter(self) -> None:
        """In training, every parameter and the input have a finite gradient that is not zero."""
        layer, x = self.layer().train(), self.inputs().requires_grad_()
        leave_initial_point(layer)
        (self.run(layer, x) * self.inputs(seed=1)).sum().backward()
        expect_gradients_everywhere(layer, exempt=self.without_gradient)
        reached = x.grad is not None and bool(x.grad.isfinite().all() and x.grad.count_nonzero())
        expect(reached, "the gradient of the input is not finite, or zero")

    def test_state_survives_a_checkpoint(self, tmp_path: Path) -> None:
        """A layer that was trained, saved as safetensors and loaded into a new one computes the same bits."""
        trained, fresh, x = self.layer(seed=0), self.layer(seed=1), self.inputs()
        train_a_little(trained.train(), self.run(trained, x).square().mean())
        load_through_checkpoint(trained, fresh, tmp_path)
        loaded, expected = self.run(fresh.eval(), x), self.run(trained.eval(), x)
        expect_equal(loaded, expected, "state_dict() must hold all that the output depends on; a loaded layer differs")

    def test_instances_share_no_state(self) -> None:
        """Using and training one layer leaves another one as it is."""
        first, second, x = self.layer(seed=0), self.layer(seed=1), self.inputs()
        expect_apart(first, second, "two layers")
        before = self.run(first, x)
        train_a_little(second.train(), self.run(second, self.inputs(seed=1)).square().mean())
        expect_equal(self.run(first, x), before, "using one layer changed another; they share state")

    def test_copy_is_equal_and_independent(self) -> None:
        """A deep copy computes the same, and training it leaves the original as it is."""
        layer, x = self.layer(), self.inputs()
        before = self.run(layer, x)
        copied = copy.deepcopy(layer)
        expect_equal(self.run(copied, x), before, "a deep copy of the layer computes something else")
        train_a_little(copied.train(), self.run(copied, x).square().mean())
        expect_equal(self.run(layer, x), before, "training a deep copy of the layer changed the original")

    def test_arguments_are_not_written_to(self) -> None:
        """Tokens, mask and positions are as before the call, in training too."""
        for layer in (self.layer(), self.layer().train()):
            x, positions = self.inputs(), self.positions(self.num_sets, self.num_tokens).clone()
            mask = self._padding() if "padding" in layer.invariances else None
            before = copy.deepcopy([x, positions, mask])
            self.run(layer, x, mask=mask, positions=positions)
            expect_equal([x, positions, mask], before, "a layer must not write to its arguments")

    def test_evaluation_is_deterministic_and_uses_no_global_randomness(self) -> None:
        """In evaluation mode a layer is a function of its weights and arguments."""
        layer, x, positions = self.layer(), self.inputs(), self.positions(self.num_sets, self.num_tokens)
        expect_no_global_randomness("a layer in evaluation mode", lambda: layer(x, positions=positions))

    def test_float64_is_kept_and_agrees(self) -> None:
        """In float64 the output is float64, and agrees with that of float32."""
        layer, x = self.layer(), self.inputs()
        expected = self.run(layer, x)
        out = self.run(layer.double(), x.double())
        expect(out.dtype == torch.float64, f"a layer in float64 returned {out.dtype}")
        expect_close(out, expected, "float64 and float32 disagree", tolerance=self.tolerance)

    def test_bf16_is_finite_and_close(self) -> None:
        """In bf16-mixed precision output and gradients are finite, and the output is close to that in float32."""
        layer, x = self.layer(), self.inputs()
        expected = self.run(layer, x)
        with autocast(torch.device("cpu"), "bf16-mixed"):
            out = self.run(layer, x)
        expect_close(out, expected, "the output in bf16-mixed precision is off", tolerance=self.bf16_tolerance)
        out.float().square().sum().backward()
        expect_finite_gradients(_gradients(layer), "in bf16-mixed precision")

    def test_sets_of_a_batch_do_not_see_each_other(self) -> None:
        """In evaluation mode, what one set holds does not change the output of another."""
        layer, x = self.layer(), self.inputs()
        changed = torch.cat([x[:1], self.inputs(seed=1)[1:]])
        broken = "sets of a batch must not see each other, but the first one's output depends on the others"
        expect_close(self.run(layer, changed)[:1], self.run(layer, x)[:1], broken, tolerance=self.tolerance)
        expect_close(self.run(layer, x[:1]), self.run(layer, x)[:1], broken, tolerance=self.tolerance)

    def test_pairwise_mask_is_obeyed_or_refused(self) -> None:
        """Under a mask (batch, 1, tokens, tokens) of two groups, neither sees the other; or the mask is an error."""
        layer, x, first = self.layer(), self.inputs(), self.num_tokens // 2
        group = torch.arange(self.num_tokens) < first
        mask = (group[:, None] == group[None, :]).expand(self.num_sets, 1, -1, -1)
        changed = torch.where(group[:, None], x, self.inputs(seed=1))
        try:
            expected, out = self.run(layer, x, mask=mask), self.run(layer, changed, mask=mask)
        except SetwiseError as error:
            pytest.skip(f"the layer takes no pairwise masks: {error}")
        broken = "the mask is ignored: tokens depend on others that they may not attend to"
        expect_close(out[:, :first], expected[:, :first], broken, tolerance=self.tolerance)

    def test_permuted_tokens_give_permuted_outputs(self) -> None:
        """Claim "permutation": tokens in another order, with positions and mask, give outputs in that order."""
        layer = self._claiming("permutation")
        x, mask, positions = self.inputs(), self._padding(), self.positions(self.num_sets, self.num_tokens)
        order = torch.randperm(self.num_tokens, generator=torch.Generator().manual_seed(0))
        for given in (None, mask) if "padding" in layer.invariances else (None,):
            expected = self.run(layer, x, mask=given, positions=positions)[:, order]
            permuted = None if given is None else given[:, order]
            out = self.run(layer, x[:, order], mask=permuted, positions=positions[:, order])
            broken = '"permutation" is claimed, but permuted tokens do not give permuted outputs'
            if given is not None:
                out, expected = out[permuted], expected[permuted]
            expect_close(out, expected, broken, tolerance=self.tolerance)

    @pytest.mark.parametrize("garbage", [1e3, float("inf"), float("nan")])
    def test_padding_never_reaches_real_tokens(self, garbage: float) -> None:
        """Claim "padding": whatever masked tokens hold, the outputs of the others and all gradients stay the same."""
        clean = self._claiming("padding")
        dirty, mask = copy.deepcopy(clean), self._padding()
        x = self.inputs().masked_fill(~mask[..., None], 0)
        filled = x.masked_fill(~mask[..., None], garbage)
        for training in (True, False):
            expected = self._real_outputs(clean.train(training), x, mask)
            found = self._real_outputs(dirty.train(training), filled, mask)
            mode = "training" if training else "evaluation"
            for name, value in expected.items():
                broken = f'"padding" is claimed, but in {mode} {name} changes when padding holds {garbage}'
                expect_close(found[name], value, broken, tolerance=self.tolerance * 10)

    def test_amount_of_padding_changes_nothing(self) -> None:
        """Claim "padding": a set gives the same outputs padded and not, so it does not matter who shares its batch."""
        layer, x, real = self._claiming("padding"), self.inputs(), self.num_tokens // 2
        if not self.other_num_tokens:
            pytest.skip("the layer takes one number of tokens only")
        mask = torch.arange(self.num_tokens).expand(self.num_sets, -1) < real
        positions = self.positions(self.num_sets, self.num_tokens)
        padded = self.run(layer, x, mask=mask, positions=positions)[:, :real]
        alone = self.run(layer, x[:, :real], positions=positions[:, :real])
        broken = '"padding" is claimed, but outputs differ between a padded set and the same without padding'
        expect_close(padded, alone, broken, tolerance=self.tolerance)

    @pytest.mark.parametrize("seen", ["nothing", "the last token", "a pairwise mask without one row"])
    def test_tokens_with_nothing_to_attend_are_finite(self, seen: str) -> None:
        """Claim "padding": sets that may attend nothing give finite outputs and gradients, and change no other."""
        layer, x, tokens = self._claiming("padding"), self.inputs(), self.num_tokens
        mask = torch.ones(self.num_sets, tokens, dtype=torch.bool)
        mask[0] = False
        if seen == "the last token":  # in a causal layer, all tokens before it attend to nothing
            mask[0, -1] = True
        elif seen != "nothing":
            mask = torch.ones(self.num_sets, 1, tokens, tokens, dtype=torch.bool)
            mask[0, :, tokens // 2] = False
        x.requires_grad_()
        try:
            out = self.run(layer, x, mask=mask)
        except SetwiseError as error:
            if mask.dim() == 2:
                raise
            pytest.skip(f"the layer takes no pairwise masks: {error}")
        expect(bool(out.isfinite().all()), "the output of tokens with nothing to attend is not finite")
        broken = "a set with nothing to attend changes other sets"
        expect_close(out[1:], self.run(layer, x)[1:], broken, tolerance=self.tolerance)
        out.square().sum().backward()
        expect_finite_gradients({**_gradients(layer), "the input": x.grad}, "where tokens have nothing to attend")

    def test_later_tokens_never_change_earlier_outputs(self) -> None:
        """Claim "causal": outputs up to a token depend on nothing after it, not even on how much there is."""
        layer, x, other = self._claiming("causal"), self.inputs(), self.inputs(seed=1)
        positions, expected = self.positions(self.num_sets, self.num_tokens), self.run(layer, x)
        for cut in range(1, self.num_tokens):
            changed = torch.cat([x[:, :cut], other[:, cut:]], dim=1)
            inputs = {"other tokens follow": changed}
            if self.other_num_tokens:
                inputs["no tokens follow"] = x[:, :cut]
            for when, given in inputs.items():
                out = self.run(layer, given, positions=positions[:, : given.shape[1]])[:, :cut]
                broken = f'"causal" is claimed, but the first {cut} outputs change when {when}'
                expect_close(out, expected[:, :cut], broken, tolerance=self.tolerance)

    @pytest.mark.parametrize("chunk", [1, 3])
    @torch.no_grad()
    def test_step_equals_forward(self, chunk: int) -> None:
        """Claim "causal": token after token, and a few at once, ``step`` gives the rows of ``forward``."""
        layer, x = self._claiming("causal"), self.inputs()
        cache = self._cache(layer, self.num_tokens)
        expected = layer(x)
        for start in range(0, self.num_tokens, chunk):
            part = slice(start, min(start + chunk, self.num_tokens))
            broken = f"step() differs from forward() at tokens {part.start} to {part.stop - 1}"
            expect_close(layer.step(x[:, part], cache), expected[:, part], broken, tolerance=self.tolerance)

    @torch.no_grad()
    def test_caches_are_independent_and_refuse_what_does_not_fit(self) -> None:
        """Claim "causal": each cache is of its own, and one that is full is an error."""
        layer, x, other = self._claiming("causal"), self.inputs(), self.inputs(seed=1)
        expected, broken = layer(x), "two caches of one layer share state"
        first, second = self._cache(layer, self.num_tokens), self._cache(layer, self.num_tokens)
        for t in range(self.num_tokens):
            layer.step(other[:, t : t + 1], second)
            out = layer.step(x[:, t : t + 1], first)
            expect_close(out, expected[:, t : t + 1], broken, tolerance=self.tolerance)
        with expect_error(SetwiseError, "step() with a full cache"):
            layer.step(x[:, :1], first)

    def test_shifted_positions_change_nothing(self) -> None:
        """Claim "translation": adding a constant to all positions leaves the output as it is."""
        layer, x = self._claiming("translation"), self.inputs()
        positions = self.positions(self.num_sets, self.num_tokens)
        expected = self.run(layer, x, positions=positions)
        for shift in self.shifts:
            broken = f'"translation" is claimed, but positions shifted by {shift} change the output'
            out = self.run(layer, x, positions=positions + shift)
            expect_close(out, expected, broken, tolerance=self.tolerance * 10)

    def _claiming(self, claim: str) -> AbstractAttention:
        layer = self.layer()
        if claim not in layer.invariances:
            pytest.skip(f'the layer does not claim "{claim}" as it is configured')
        return layer

    def _cache(self, layer: AbstractAttention, max_tokens: int) -> object:
        try:
            return layer.init_cache(self.num_sets, max_tokens)
        except SetwiseError as error:
            pytest.skip(str(error))

    def _padding(self) -> Bool[Tensor, "sets tokens"]:
        """Return a mask of sets that are padded in several places: at the end, in the middle, not at all."""
        mask = torch.ones(self.num_sets, self.num_tokens, dtype=torch.bool)
        mask[0, self.num_tokens // 2 :] = False
        mask[1 % self.num_sets, self.num_tokens // 2] = False
        return mask

    def _real_outputs(
        self, layer: AbstractAttention, x: Float[Tensor, "sets tokens dim"], mask: Bool[Tensor, "sets tokens"]
    ) -> dict[str, Tensor]:
        """Return the outputs of real tokens, and the gradients of a loss of them."""
        layer.zero_grad()
        x = x.clone().requires_grad_()
        out = self.run(layer, x, mask=mask)[mask]
        out.square().sum().backward()
        gradients = {f"the gradient of {name}": g.clone() for name, g in _gradients(layer).items() if g is not None}
        assert x.grad is not None
        return {"an output": out, **gradients, "the gradient of the input": x.grad}


def _gradients(layer: AbstractAttention) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in layer.named_parameters()}
