"""Encoding, sets of rows and what is hidden of them, against the published code on the same tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from torch import Tensor

from setwise.data.tabular import TableData
from setwise_npt.columns import Columns
from setwise_npt.masking import choose_cells, corrupt

_MODES = ("train", "val", "test")


class _Seen(NamedTuple):
    """What a model gets to see of rows, each tensor (rows, columns), and which cells its losses are taken on."""

    values: Tensor
    codes: Tensor
    hidden: Tensor
    label_loss: Tensor
    feature_loss: Tensor


def _columns(golden: Any) -> Columns:
    slots = [golden.tensors[f"ssl.encoded.{j}"].shape[1] - 1 for j in range(golden.config["D"])]
    kinds = zip(slots, golden.config["kinds"], strict=True)
    return Columns(tuple(size if kind == "cat" else 0 for size, kind in kinds), (golden.config["target"],))


def _truth(golden: Any, regime: str) -> tuple[Tensor, Tensor, Tensor]:
    values, codes, missing = (t[0] for t in golden.table(f"{regime}.encoded", _columns(golden)))
    return values, torch.where(missing, 0, codes), missing


def _splits(golden: Any) -> Tensor:
    return torch.arange(3).repeat_interleave(torch.tensor(golden.config["splits"]))


def _published(golden: Any, regime: str, mode: str) -> _Seen:
    values, codes, hidden = (t[0] for t in golden.table(f"{regime}.{mode}.x", _columns(golden)))
    label_loss = golden.tensors[f"{regime}.{mode}.label_loss"].bool()
    feature_loss = golden.tensors.get(f"{regime}.{mode}.feature_loss", torch.zeros_like(label_loss)).bool()
    return _Seen(values, torch.where(hidden, 0, codes), hidden, label_loss, feature_loss)


def _ours(golden: Any, regime: str, mode: str) -> _Seen:
    """Hide cells of the published rows ourselves."""
    columns, rows = _columns(golden), golden.tensors[f"{regime}.{mode}.row_order"]
    values, codes, missing = (t[None, rows] for t in _truth(golden, regime))
    noise = torch.rand(2, *values.shape, generator=torch.Generator().manual_seed(0))
    masks = choose_cells(
        missing,
        _splits(golden)[None, rows],
        torch.ones(1, len(rows), dtype=torch.bool),
        columns.tensors(values.device).is_target,
        noise[0],
        mode=mode,
        label_probability=golden.config["p_label"][mode],
        feature_probability=golden.config["p_feature"] if mode == "train" else 0.0,
        mask_share=0.9,
    )
    seen = corrupt(values, codes, masks, noise[1], columns)
    return _Seen(*(tensor[0] for tensor in (*seen, masks.hidden, masks.label_loss, masks.feature_loss)))


@pytest.mark.parametrize("regime", ["ssl", "nossl"])
def test_tables_are_encoded_and_divided_into_sets_as_published(data_golden, regime: str):
    config = data_golden.config
    names = [f"c{j}" for j in range(config["D"])]
    frame = pd.DataFrame(config["table"], columns=names)
    frame["split"] = [_MODES[code] for code in _splits(data_golden).tolist()]
    data = TableData.from_frame(
        frame,
        target=names[config["target"]],
        categorical=tuple(name for name, kind in zip(names, config["kinds"], strict=True) if kind == "cat"),
        split_column="split",
        set_size="all" if config["batch_size"] == -1 else config["batch_size"],
        transductive=regime == "ssl",
    )
    data.prepare()
    order = [j for j in range(config["D"]) if j != config["target"]] + [config["target"]]
    values, codes, missing = (tensor[:, order] for tensor in _truth(data_golden, regime))
    assert Columns.of(data.spec).sizes == tuple(_columns(data_golden).sizes[j] for j in order)
    for mode in _MODES:
        sets = [data.item(mode, 0, index) for index in range(data.num_items(mode))]
        rows = torch.cat([one_set["row_id"] for one_set in sets])
        published = data_golden.under(f"{regime}.{mode}.")
        assert sorted(len(one_set["row_id"]) for one_set in sets) == sorted(published["batch_sizes"].tolist())
        assert sorted(rows.tolist()) == sorted(published["row_order"].tolist())
        for one_set in sets:
            picked = one_set["row_id"]
            torch.testing.assert_close(one_set["values"], values[picked], atol=1e-5, rtol=0)
            assert one_set["codes"].equal(codes[picked])
            assert one_set["missing"].equal(missing[picked])
            assert one_set["split"].equal(_splits(data_golden)[picked])


@pytest.mark.parametrize("regime", ["ssl", "nossl"])
@pytest.mark.parametrize("mode", _MODES)
def test_what_is_not_left_to_chance_is_hidden_as_published(data_golden, regime: str, mode: str):
    ours, published = _ours(data_golden, regime, mode), _published(data_golden, regime, mode)
    target = data_golden.config["target"]
    if data_golden.config["p_label"][mode] in (0, 1):
        assert ours.hidden[:, target].equal(published.hidden[:, target])
        assert ours.label_loss.equal(published.label_loss)
    if mode != "train":
        assert ours.feature_loss.equal(published.feature_loss)
        if data_golden.config["p_label"][mode] in (0, 1):
            assert ours.hidden.equal(published.hidden)
            assert ours.values.equal(published.values)
            assert ours.codes.equal(published.codes)


@pytest.mark.parametrize("regime", ["ssl", "nossl"])
@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize("hide", [_published, _ours], ids=["published", "ours"])
def test_what_is_left_to_chance_keeps_the_published_rules(data_golden, hide: Any, regime: str, mode: str):
    seen = hide(data_golden, regime, mode)
    columns, rows = _columns(data_golden), data_golden.tensors[f"{regime}.{mode}.row_order"]
    values, codes, missing = (tensor[rows] for tensor in _truth(data_golden, regime))
    split = _splits(data_golden)[rows][:, None]
    is_target = torch.zeros(len(columns), dtype=torch.bool)
    is_target[list(columns.targets)] = True
    is_wanted = split == _MODES.index(mode)
    untouched = ~seen.hidden & seen.values.eq(values) & seen.codes.eq(codes)
    may_show = (split == 0) | ((split == 1) & (mode == "test"))
    assert seen.hidden[missing].all()
    assert not (seen.label_loss | seen.feature_loss)[missing].any()
    assert seen.hidden[(is_target & ~may_show).expand_as(missing)].all()
    assert not seen.label_loss[(~is_target | ~is_wanted).expand_as(missing)].any()
    assert not seen.feature_loss[is_target.expand_as(missing)].any()
    assert untouched[~is_target & ~missing & ~seen.feature_loss].all()
    assert seen.values[seen.hidden].eq(0).all()
    assert seen.codes[seen.hidden].eq(0).all()
    if mode == "train" and data_golden.config["p_label"]["train"] < 1:
        assert untouched[is_target & is_wanted & ~missing & ~seen.label_loss].all()
    if mode != "train":
        assert seen.label_loss.equal(is_target & is_wanted & ~missing)
