"""The options of everything this plugin registers. Free of torch, so that recipes are checked without importing it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from setwise.config import Options

Dropout = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class BlockOptions(Options):
    """One attention block; the defaults are the published code's."""

    num_heads: Count = Field(8, description="attention heads; must divide column_dim")
    dropout: Dropout = Field(0.1, description="probability of dropping an element of hidden and output values")
    attention_dropout: Dropout = Field(0.1, description="probability of dropping an attention weight")
    norm: Literal["pre", "post", "none"] = Field(
        "pre", description="layer norms stand before each part, after its residual sum, or nowhere"
    )
    norm_eps: float = Field(1e-12, gt=0, description="added to the variance in every layer norm")
    norm_keys_values: bool = Field(
        False, description="with norm=pre, norm what keys and values see too, as the paper has it; the code does not"
    )
    score_norm: Literal["softmax", "constant"] = Field(
        "softmax", description="weights are the softmax of the scores, or Q K^T over the width of a head"
    )
    score_scale: Literal["input", "head"] = Field(
        "input", description="the softmax's scores are over the root of the width of the input, or of a head"
    )
    mix_heads: bool = Field(True, description="mix the heads' outputs with a linear map")
    residual_projection: bool = Field(True, description="the residual is a linear map of the input, not the queries")
    feed_forward: bool = Field(True, description="have the feed-forward part; else the normed sum is added once more")
    feed_forward_depth: Count = Field(1, description="hidden layers of the feed-forward part, 4 blocks wide each")
    backend: Literal["auto", "reference", "sdpa", "chunked"] = Field(
        "auto", description="how the softmax attention is computed, see setwise.attention.attend"
    )


class NptOptions(BlockOptions):
    """The Non-Parametric Transformer; the defaults are the published code's."""

    column_dim: Count = Field(64, description="width E of a cell; a row of D columns is D * E wide")
    num_layers: Count = Field(8, description="attention blocks, between rows and between columns together")
    layers: Literal["hybrid", "rows", "columns"] = Field(
        "hybrid", description="what blocks attend between; hybrid alternates and starts with rows"
    )
    mask_token: bool = Field(True, description="tell hidden and missing cells from zeros")
    type_embedding: bool = Field(True, description="embed whether a column is a number or a category")
    index_embedding: bool = Field(True, description="embed the place of a column in the table")
    embedding_norm: bool = Field(False, description="layer norm after the embedding")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.layers == "hybrid" and self.num_layers % 2:
            raise ValueError(
                f"num_layers={self.num_layers} must be even for layers=hybrid, which alternates rows and columns; "
                f"try {self.num_layers + 1}"
            )
        if self.column_dim % self.num_heads:
            fitting = [heads for heads in range(1, self.column_dim + 1) if self.column_dim % heads == 0]
            raise ValueError(
                f"num_heads={self.num_heads} must divide column_dim={self.column_dim}; "
                f"allowed: {', '.join(map(str, fitting))}"
            )
        return self


class ByMode(Options):
    """A probability in each mode of looking at a table; new rows are predicted in mode test."""

    train: Share = Field(default=0.0, description="while the train rows are learnt from")
    val: Share = Field(default=0.0, description="while the val rows are predicted")
    test: Share = Field(default=0.0, description="while the test rows or new rows are predicted")


class MaskedModellingOptions(Options):
    """What is hidden from the model, and the two losses; the defaults are the published code's."""

    label_mask: ByMode = Field(
        ByMode(train=1.0, val=1.0, test=1.0),
        description="probability of hiding a label that may be shown; 1 hides all labels of all rows",
    )
    feature_mask: ByMode = Field(
        ByMode(train=0.15), description="probability of choosing a feature cell for the feature loss"
    )
    mask_share: Share = Field(0.9, description="share of chosen cells that are hidden; the rest show a random value")
    tradeoff: float = Field(
        0.5, description="first weight of the feature loss, the label loss having the rest; -1: one mean over all cells"
    )
    tradeoff_annealing: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="how the weight of the feature loss falls to 0"
    )
    tradeoff_proportion: float = Field(1.0, gt=0, le=1, description="share of the steps after which it is 0")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tradeoff != -1 and not 0 <= self.tradeoff <= 1:
            raise ValueError(f"tradeoff={self.tradeoff} must be in [0, 1], or -1 for one mean over all cells")
        return self


class LookaheadOptions(Options):
    """Lookahead (Zhang et al., 2019)."""

    steps: Count = Field(default=6, description="optimizer steps from sync to sync")
    alpha: float = Field(
        default=0.5, gt=0, le=1, description="how far the slow weights move to the fast ones at a sync"
    )
    start: Literal["first_sync", "initial"] = Field(
        default="first_sync",
        description="when the slow weights are copied; at the first sync, that does nothing (the code)",
    )


class LambOptions(Options):
    """LAMB (You et al., 2020) as the published code has it, by default inside Lookahead."""

    lr: float = Field(1e-3, ge=0, description="learning rate")
    betas: tuple[Dropout, Dropout] = Field((0.9, 0.999), description="decay of the gradient's mean and mean square")
    eps: float = Field(1e-6, gt=0, description="added to the root of the mean square")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, scaled by the trust ratio too")
    max_norm: float = Field(10.0, gt=0, description="largest norm of a parameter that the trust ratio counts")
    lookahead: LookaheadOptions | None = Field(LookaheadOptions(), description="Lookahead around it; null: none")


class LookaheadAdamOptions(Options):
    """Adam inside Lookahead."""

    lr: float = Field(1e-3, ge=0, description="learning rate")
    betas: tuple[Dropout, Dropout] = Field((0.9, 0.999), description="decay of the gradient's mean and mean square")
    eps: float = Field(1e-8, gt=0, description="added to the root of the mean square")
    weight_decay: float = Field(0.0, ge=0, description="added to the gradient, times the weight")
    lookahead: LookaheadOptions = Field(LookaheadOptions(), description="Lookahead around it")


class FlatAndAnnealOptions(Options):
    """The flat-and-anneal schedule."""

    flat: Share = Field(0.7, description="share of the steps at the full learning rate, before the cosine to 0")


class WarmupOptions(Options):
    """A schedule that warms up."""

    warmup: Share = Field(0.7, description="share of the steps in which the learning rate rises")
    warmup_steps: int | None = Field(None, ge=0, description="number of these steps, instead of their share")
