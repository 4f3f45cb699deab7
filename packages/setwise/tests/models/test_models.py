from __future__ import annotations

import pytest
import torch
from torch import nn

from setwise.data.spec import Categorical, Continuous, DataSpec, Image, PointSet, Tokens
from setwise.errors import ConfigError, ShapeError
from setwise.models import CausalLM, Encoder
from setwise.models.causal_lm import build_causal_lm
from setwise.models.encoder import CellEmbedding, PatchEmbedding
from setwise.options import CausalLMOptions, EncoderOptions

KIND = Categorical("kind", ("a", "b", "c"))
COLUMNS = (Continuous("x"), Categorical("colour", ("red", "blue")), Continuous("y"))
ATTENTION = {"name": "mha", "num_heads": 1}


def encoder(data: DataSpec, **options: object) -> Encoder:
    return Encoder(data, EncoderOptions.model_validate({"dim": 8, "num_layers": 2, "attention": ATTENTION, **options}))


def test_a_cell_is_its_value_times_its_columns_vector_or_the_row_of_its_category() -> None:
    embedding = CellEmbedding(COLUMNS, dim=5)
    table, bias = embedding.table, embedding.bias  # rows: x, no x | red, blue, no colour | y, no y
    tokens = embedding(
        torch.tensor([[3.0, 0.0, -2.0], [0.0, 0.0, 0.0]]),
        torch.tensor([[0, 1, 0], [0, 0, 0]]),
        torch.tensor([[False, False, False], [True, True, True]]),
    )
    torch.testing.assert_close(tokens[0], torch.stack([3 * table[0], table[3], -2 * table[5]]) + bias)
    torch.testing.assert_close(tokens[1], table[[1, 4, 6]] + bias)


def test_patches_are_squares_of_the_image_row_by_row() -> None:
    embedding = PatchEmbedding(Image("image", channels=2, height=4, width=6), patch_size=2, dim=8)
    nn.init.eye_(embedding.project.weight)
    nn.init.zeros_(embedding.project.bias)
    nn.init.zeros_(embedding.position)
    image = torch.arange(48.0).view(1, 2, 4, 6)
    tokens = embedding(image=image)
    assert tokens.shape == (1, 6, 8)
    assert tokens[0, 1].tolist() == image[0, :, 0:2, 2:4].flatten().tolist()
    assert tokens[0, 3].tolist() == image[0, :, 2:4, 0:2].flatten().tolist()


def test_one_output_for_each_category_or_each_number() -> None:
    rows = {"values": torch.randn(7, 3), "codes": torch.zeros(7, 3).long(), "missing": torch.zeros(7, 3).bool()}
    assert encoder(DataSpec(COLUMNS, (KIND,)))(**rows).shape == (7, 3)
    assert encoder(DataSpec(COLUMNS, (Continuous("u"), Continuous("v"))))(**rows).shape == (7, 2)
    picture = DataSpec((Image("image", 1, 8, 8),), (KIND,))
    assert encoder(picture, norm="rms", norm_first=False, activation="swiglu")(image=torch.randn(5, 1, 8, 8)).shape == (
        5,
        3,
    )


def test_the_feed_forward_layers_have_the_width_asked_for() -> None:
    shapes = {tuple(p.shape) for p in encoder(DataSpec(COLUMNS, (KIND,)), ffn_dim=29).parameters()}
    assert {(29, 8), (8, 29)} <= shapes


def test_gradients_reach_every_parameter() -> None:
    model = encoder(DataSpec(COLUMNS, (KIND,)))
    missing = torch.tensor([[True, False, False], [False, True, True], [False, False, False]])
    codes = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    model(values=torch.randn(3, 3), codes=codes, missing=missing).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            DataSpec((PointSet("points", 2),), (KIND,)),
            r"reads one image, or the columns of a table.*points \(PointSet\)",
        ),
        (DataSpec(COLUMNS), "predicts one categorical target or continuous ones; the data has: none"),
        (DataSpec((Image("image", 1, 9, 6),), (KIND,)), r"patch_size=4 must divide.*9 x 6 pixels; try one of \[1, 3\]"),
    ],
)
def test_data_that_it_cannot_read_is_refused(data: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(data)


def language_model(**options: object) -> CausalLM:
    chosen = CausalLMOptions.model_validate({"dim": 8, "num_layers": 2, "attention": ATTENTION, **options})
    return build_causal_lm(chosen, data=DataSpec((Tokens("tokens", vocab_size=11, length=7),)))


@pytest.mark.parametrize("rope", [False, True])
def test_later_tokens_do_not_change_earlier_logits(rope: bool) -> None:
    model = language_model(learned_positions=not rope, attention={**ATTENTION, "rope": rope}).eval()
    tokens = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = model(tokens=tokens), model(tokens=changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_the_order_of_tokens_matters() -> None:
    model = language_model().eval()
    tokens = torch.tensor([[1, 2, 3], [2, 1, 3]])
    one, other = model(tokens=tokens)[:, -1]
    assert not torch.allclose(one, other)


def test_input_and_output_vectors_are_tied() -> None:
    names = [name for name, _ in language_model().named_parameters()]
    assert [name for name in names if "embedding" in name or "head" in name] == ["embedding.weight"]


def test_longer_inputs_than_the_model_was_built_for_are_refused() -> None:
    with pytest.raises(ShapeError, match="got 8 tokens, the model was built for at most 7"):
        language_model()(tokens=torch.zeros(1, 8).long())


def test_a_language_model_of_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reads text.*x \(Continuous\)"):
        build_causal_lm(CausalLMOptions(), data=DataSpec(COLUMNS))
