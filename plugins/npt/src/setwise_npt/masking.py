"""What is hidden from the model, and where the losses are taken (Kossen et al., 2021, section 2.4, appendix C.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setwise_npt.columns import Columns

# The codes of a set's `split`, and for every mode those of the rows whose labels the model may be shown.
SPLIT_CODES = {"train": 0, "val": 1, "test": 2, "predict": 3}
_MAY_SHOW_LABELS = {"train": (0,), "val": (0,), "test": (0, 1), "predict": (0, 1)}


class Masks(NamedTuple):
    """For every cell: what the model gets to see of it, and which loss it counts in.

    Attributes:
        hidden: shown as the mask token.
        replaced: shown with a random value.
        label_loss: a label that the model has to predict.
        feature_loss: a feature that the model has to reconstruct.
    """

    hidden: Bool[Tensor, "sets rows columns"]
    replaced: Bool[Tensor, "sets rows columns"]
    label_loss: Bool[Tensor, "sets rows columns"]
    feature_loss: Bool[Tensor, "sets rows columns"]


def choose_cells(
    missing: Bool[Tensor, "sets rows columns"],
    split: Int[Tensor, "sets rows"],
    present: Bool[Tensor, "sets rows"],
    is_target: Bool[Tensor, " columns"],
    noise: Float[Tensor, "sets rows columns"],
    *,
    mode: str,
    label_probability: float,
    feature_probability: float,
    mask_share: float,
) -> Masks:
    """Choose at random what to hide of each set, and where its losses are taken.

    ======= =================== =========================================== ====================================
    mode    label probability   hidden labels                               label loss on
    ======= =================== =========================================== ====================================
    any     1                   all                                         the labels of the mode's split
    train   p < 1               of train rows with p; all others            the hidden labels of train rows
    val     p < 1               of train rows with p; all others            all labels of val rows
    test    p < 1               of train and val rows with p; all others    all labels of test rows
    ======= =================== =========================================== ====================================

    Every feature cell is chosen with the feature probability; the feature loss is on those. Of the cells that are
    chosen with a probability, the share ``1 - mask_share`` is not hidden but replaced by random values. Missing
    cells are hidden, and have no loss.

    Args:
        missing: cells without a value.
        split: which split each row belongs to, see :data:`SPLIT_CODES`.
        present: rows that are there; the others are padding.
        is_target: columns that hold labels.
        noise: uniform in [0, 1), what the choice is a function of.
        mode: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
        label_probability: see the table.
        feature_probability: probability of choosing a feature cell.
        mask_share: share of the chosen cells that are hidden.
    """
    known = present.unsqueeze(-1) & ~missing
    labels = known & is_target
    wanted = labels & (split == SPLIT_CODES[mode]).unsqueeze(-1)
    if label_probability == 1:
        hidden_labels, replaced_labels = labels, torch.zeros_like(labels)
    else:
        may_show = torch.zeros_like(present)
        for code in _MAY_SHOW_LABELS[mode]:
            may_show |= split == code
        chosen, replaced_labels = _choose(labels & may_show.unsqueeze(-1), noise, label_probability, mask_share)
        hidden_labels = (chosen & ~replaced_labels) | (labels & ~may_show.unsqueeze(-1))
        if mode == "train":
            wanted = wanted & chosen
    chosen, replaced_features = _choose(known & ~is_target, noise, feature_probability, mask_share)
    return Masks(
        hidden=~known | hidden_labels | (chosen & ~replaced_features),
        replaced=replaced_labels | replaced_features,
        label_loss=wanted,
        feature_loss=chosen,
    )


def _choose(candidates: Tensor, noise: Tensor, probability: float, mask_share: float) -> tuple[Tensor, Tensor]:
    """Choose candidates with a probability, and of those of each set exactly the share ``1 - mask_share`` again.

    The chosen of a set are those whose noise is lowest, so the first of them by noise are a fair sample of them. The
    published code is off by one here: of 10 chosen cells it replaces 2, of 1 or 2 cells 1 or none.

    Returns:
        The chosen cells, and which of them are to be replaced.
    """
    chosen = candidates & (noise < probability)
    if probability == 0 or mask_share == 1:
        return chosen, torch.zeros_like(chosen)
    num_replaced = ((1 - mask_share) * chosen.sum((1, 2))).round()
    by_noise = torch.where(chosen, noise, 1.0).flatten(1).argsort(dim=1)
    rank = by_noise.argsort(dim=1)
    return chosen, chosen & (rank.view_as(chosen) < num_replaced[:, None, None])


def corrupt(
    values: Float[Tensor, "sets rows columns"],
    codes: Int[Tensor, "sets rows columns"],
    masks: Masks,
    noise: Float[Tensor, "sets rows columns"],
    columns: Columns,
) -> tuple[Float[Tensor, "sets rows columns"], Int[Tensor, "sets rows columns"]]:
    """Return values and codes with nothing left of what is hidden, and random ones where they are replaced.

    A random number is from N(0, 1), a random category is uniform over all of its column, the true one included.

    Args:
        values: standardised numbers.
        codes: category indices.
        masks: see :func:`choose_cells`.
        noise: uniform in [0, 1), independent of the noise the cells were chosen by.
        columns: the table's columns.
    """
    sizes = columns.tensors(values.device).sizes
    is_numeric = sizes == 0
    # Noise has a grain of 2^-24; half of it keeps the quantile of 0 finite.
    random_values = torch.where(is_numeric, torch.special.ndtri(noise.clamp(min=2.0**-25)), 0.0)
    random_codes = (noise * sizes).long().minimum((sizes - 1).clamp(min=0))
    values = torch.where(masks.replaced, random_values, values.masked_fill(masks.hidden, 0.0))
    codes = torch.where(masks.replaced, random_codes, codes.masked_fill(masks.hidden, 0))
    return values, codes
