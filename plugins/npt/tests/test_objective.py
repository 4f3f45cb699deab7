"""The losses and their trade-off against the published code."""

from __future__ import annotations

import pytest
import torch

from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.objective import MaskedLoss, annealed_tradeoff, cell_losses, masked_loss, total_loss

_TRADEOFFS = (0.0, 0.25, 1.0, -1)


def test_losses_equal_the_published_ones(loss_golden):
    columns, tensors = loss_golden.columns, loss_golden.tensors
    values, codes, _ = loss_golden.table("truth")
    losses = cell_losses(loss_golden.outputs(), values, codes, columns)
    label = masked_loss(losses, tensors["mask.label_loss"][None].bool())
    feature = masked_loss(losses, tensors["mask.feature"][None].bool())
    for tradeoff in _TRADEOFFS:
        expected = tensors[f"total.tradeoff_{tradeoff}"]
        torch.testing.assert_close(total_loss(label, feature, tradeoff)[0], expected, atol=1e-5, rtol=0)
    is_numeric = torch.tensor(columns.sizes) == 0
    for prefix, mask in (("label", "mask.label_loss"), ("augmentation", "mask.feature")):
        chosen = tensors[mask][None].bool()
        for kind, of_kind in (("num", is_numeric), ("cat", ~is_numeric)):
            ours = masked_loss(losses, chosen & of_kind)
            expected = tensors.get(f"{prefix}.{kind}_loss.sum", torch.tensor(0.0))
            torch.testing.assert_close(ours.total[0], expected, atol=1e-5, rtol=0)
            assert ours.num_cells[0] == tensors.get(f"{prefix}.{kind}_total_preds.sum", 0)


def test_gradients_of_the_loss_equal_the_published_ones(loss_golden):
    if not loss_golden.config["has_weights_and_grads"]:
        pytest.skip("the file has no gradients")
    model, tensors = loss_golden.model(), loss_golden.tensors
    outputs = model(*loss_golden.table("x"))
    values, codes, _ = loss_golden.table("truth")
    losses = cell_losses(outputs, values, codes, loss_golden.columns)
    label = masked_loss(losses, tensors["mask.label_loss"][None].bool())
    feature = masked_loss(losses, tensors["mask.feature"][None].bool())
    total_loss(label, feature, loss_golden.config["grads_for_tradeoff"]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    published = loss_golden.state("grad.")
    assert gradients.keys() == published.keys()
    for name, expected in published.items():
        torch.testing.assert_close(gradients[name], expected, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_tradeoffs_equal_the_published_ones(schedules_golden):
    for name, case in schedules_golden.config["tradeoff"].items():
        shares = (case["proportion"], case["lr_proportion"], 1)  # -1 stands for the next one
        proportion = next(share for share in shares if share != -1)
        expected = schedules_golden.tensors[f"tradeoff.{name}"]
        ours = [
            annealed_tradeoff(
                step,
                case["total_steps"],
                initial=case["init"],
                annealing=case["name"].removesuffix("_decline"),
                proportion=proportion,
            )
            for step in range(len(expected))
        ]
        torch.testing.assert_close(
            torch.tensor(ours, dtype=torch.float64), expected, atol=1e-12, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_one_mean_over_all_cells_is_never_annealed():
    assert annealed_tradeoff(7, 11, initial=-1, annealing="cosine", proportion=1.0) == -1


def test_cells_of_a_table_lose_squared_errors_and_cross_entropies():
    columns = Columns(sizes=(2, 0, 3), targets=(0,))
    values = torch.tensor([[[0.0, 1.5, 0.0]]])
    codes = torch.tensor([[[1, 0, 2]]])
    quarter, half = torch.tensor([0.25, 0.75]), torch.tensor([0.25, 0.25, 0.5, 0.0])
    outputs = ColumnOutputs(torch.tensor([[[3.5]]]), (quarter.log()[None, None, None], half.log()[None, None, None]))
    expected = torch.tensor([-torch.tensor(0.75).log(), 4.0, torch.tensor(2.0).log()])
    torch.testing.assert_close(cell_losses(outputs, values, codes, columns)[0, 0], expected)


@pytest.mark.parametrize("tradeoff", _TRADEOFFS)
def test_nothing_chosen_is_no_loss_and_no_gradient(tradeoff: float):
    losses = torch.ones(2, 5, 3, requires_grad=True)
    nothing = masked_loss(losses, torch.zeros(2, 5, 3, dtype=torch.bool))
    total = total_loss(nothing, nothing, tradeoff)
    assert total.tolist() == [0, 0]
    total.sum().backward()
    assert losses.grad is not None
    assert losses.grad.eq(0).all()


def test_a_loss_that_is_not_chosen_may_be_anything():
    losses = torch.tensor([[[1.0, torch.inf, torch.nan]]], requires_grad=True)
    loss = masked_loss(losses, torch.tensor([[[True, False, False]]]))
    loss.mean.sum().backward()
    assert loss.mean.tolist() == [1.0]
    assert losses.grad is not None
    assert losses.grad.flatten().tolist() == [1, 0, 0]


def test_sets_are_weighed_one_by_one():
    label = MaskedLoss(torch.tensor([6.0, 1.0]), torch.tensor([3.0, 1.0]))
    feature = MaskedLoss(torch.tensor([4.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert total_loss(label, feature, 0.25).tolist() == [0.25 * 4 + 0.75 * 2, 0.75]
    assert total_loss(label, feature, -1).tolist() == [10 / 4, 1.0]
