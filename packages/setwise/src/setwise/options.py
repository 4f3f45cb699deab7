"""The options of what core itself registers. Free of torch, so that recipes are checked without it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from setwise.config import Component, Options, Slot

Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class TableLayout(Options):
    """Which columns of a table are what, which rows train, validate and test, and what an item is."""

    target: str | tuple[str, ...] | None = Field(None, description="the column to predict, or a list of columns")
    categorical: tuple[str, ...] = Field((), description="columns that are categories whatever they look like")
    continuous: tuple[str, ...] = Field((), description="columns that are numbers whatever they look like")
    drop: tuple[str, ...] = Field((), description="columns to leave out")
    drop_missing_targets: bool = Field(False, description="leave out rows without a target, instead of refusing them")

    test_fraction: Fraction | None = Field(
        None, description="share of all rows that test; null: 0.2, unless folds, test_rows or split_column decide"
    )
    val_fraction: Fraction = Field(0.1, description="share of all rows that validate, taken from those not testing")
    folds: int | None = Field(None, ge=2, description="number of folds of a cross-validation, which partition the rows")
    fold: int = Field(0, ge=0, description="the fold that tests, from 0")
    test_rows: int | None = Field(None, ge=1, description="test on this many of the table's last rows")
    split_column: str | None = Field(None, description='a column that says "train", "val" or "test" for every row')
    split_seed: Seed = Field(0, description="decides random splits, apart from the seed of the run")
    stratify: bool = Field(True, description="keep the proportions of a categorical target in random splits")

    set_size: Annotated[int, Field(ge=2)] | Literal["all"] | None = Field(
        None, description='most rows of a set, or "all" for the whole table as one set; null: an item is a row'
    )
    transductive: bool = Field(False, description="sets have rows of all splits; input statistics are of all rows")
    balance_classes: bool = Field(False, description="sets keep the class proportions of the train rows")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the columns to predict; empty where the source is to say."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else self.target

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        deciders = ("test_fraction", "folds", "test_rows", "split_column")
        given = [option for option in deciders if getattr(self, option) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both decide which rows test; keep one of them")
        if self.fold >= (self.folds or 1):
            allowed = f"0 to {self.folds - 1}" if self.folds else "0 only, as folds is not given"
            raise ValueError(f"fold={self.fold} does not exist; allowed: {allowed}")
        if (self.test_fraction or 0) + self.val_fraction >= 1:
            raise ValueError(
                f"test_fraction={self.test_fraction} and val_fraction={self.val_fraction} leave no row to train on"
            )
        both = sorted({*self.categorical} & {*self.continuous})
        if both:
            raise ValueError(f'"{both[0]}" is listed as categorical and as continuous; keep one of them')
        if self.set_size is None and (self.transductive or self.balance_classes):
            option = "transductive" if self.transductive else "balance_classes"
            raise ValueError(f'{option}=true needs sets of rows: give set_size, a number or "all"')
        return self


class TableOptions(TableLayout):
    """A table from a file, from OpenML, or from scikit-learn; exactly one of ``path``, ``openml``, ``sklearn``."""

    path: str | None = Field(None, description="a .csv, .tsv, .txt or .parquet file, also looked up in SETWISE_DATA")
    separator: Literal["comma", "semicolon", "tab", "whitespace"] | None = Field(
        None, description="what divides the columns of a text file; null: tabs in .tsv files, commas in others"
    )
    columns: tuple[str, ...] = Field((), description="column names, for a text file whose first line has none")
    openml: int | str | None = Field(None, description="an OpenML dataset, by id or by name")
    openml_version: int | None = Field(None, ge=1, description="version of an OpenML name; null: the active one")
    sklearn: Literal["breast_cancer", "diabetes", "digits", "iris", "wine"] | None = Field(
        None, description="a dataset that comes with scikit-learn; its target is called target"
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [option for option in ("path", "openml", "sklearn") if getattr(self, option) is not None]
        if len(given) != 1:
            found = f"given: {', '.join(given)}" if given else "none is given"
            raise ValueError(f"exactly one of path, openml and sklearn must name the table; {found}")
        if self.path is not None and self.target is None:
            raise ValueError("target must name the column to predict")
        if self.path is None and (self.separator or self.columns):
            raise ValueError("separator and columns describe a text file; they need path")
        if self.openml_version is not None and not isinstance(self.openml, str):
            raise ValueError("openml_version tells datasets of one name apart; it needs openml to be a name, not an id")
        return self


class ImageOptions(Options):
    """A dataset of labelled images with its own test images."""

    val_fraction: Fraction = Field(0.1, description="share of the images that do not test, taken to validate")
    val_size: int | None = Field(None, ge=0, description="number of images that validate; null: val_fraction decides")
    split_seed: Seed = Field(0, description="decides random splits, apart from the seed of the run")
    augment: tuple[Literal["crop", "flip"], ...] = Field(
        (), description="random changes to train images: crop after padding with black, flip left and right"
    )
    crop_padding: int = Field(4, ge=1, description="pixels by which crop may move an image")
    normalize: bool = Field(True, description="per channel mean 0 and std 1 over the train images; false: [0, 1]")


class DigitsOptions(ImageOptions):
    """The 8 x 8 digits that come with scikit-learn, which have no test images of their own."""

    test_fraction: Fraction = Field(0.2, description="share of all images that test")


class TextOptions(Options):
    """Windows of a text; exactly one of ``path`` and ``source``."""

    path: str | None = Field(None, description="a text file, or a folder of .txt files, also looked up in SETWISE_DATA")
    source: Literal["stdlib-prose"] | None = Field(
        None, description="a text that comes with Python: stdlib-prose, the help topics of its standard library"
    )
    encoding: Literal["bytes", "gpt2", "cl100k_base", "o200k_base"] = Field(
        "bytes", description="what tokens are: the bytes of UTF-8, or the tokens of a tiktoken encoding"
    )
    length: int = Field(256, ge=1, description="tokens a model reads at once")
    val_fraction: Fraction = Field(0.1, description="share of the text that validates, after the part that trains")
    test_fraction: Fraction = Field(0.1, description="share of the text that tests, at its end")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.path is None) == (self.source is None):
            found = "none is given" if self.path is None else "both are given"
            raise ValueError(f"exactly one of path and source must name the text; {found}")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction={self.val_fraction} and test_fraction={self.test_fraction} leave no text to train on"
            )
        return self


class ClassificationOptions(Options):
    """Cross-entropy over one categorical target."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all categories")


class RegressionOptions(Options):
    """Squared error over continuous targets."""


class LanguageModelingOptions(Options):
    """Cross-entropy of the next token."""


class AdamOptions(Options):
    """Adam."""

    lr: float = Field(1e-3, gt=0, description="learning rate")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="decay of the means of gradient and square")
    eps: float = Field(1e-8, gt=0, description="added to the root of the mean square")
    weight_decay: float = Field(0.0, ge=0, description="added to the gradient, times the weight")


class AdamWOptions(AdamOptions):
    """AdamW."""

    weight_decay: float = Field(0.01, ge=0, description="share of a weight that is taken off per step, times lr")


class SGDOptions(Options):
    """Stochastic gradient descent."""

    lr: float = Field(gt=0, description="learning rate")
    momentum: Fraction = Field(0.0, description="share of the last step that is repeated")
    nesterov: bool = Field(False, description="look ahead along the momentum; needs momentum")
    weight_decay: float = Field(0.0, ge=0, description="added to the gradient, times the weight")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs momentum; set momentum, for example to 0.9")
        return self


class WarmupOptions(Options):
    """A constant learning rate, after an optional warm-up."""

    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rate rises")
    warmup_fraction: Fraction | None = Field(None, description="the same as a share of all steps")

    @model_validator(mode="after")
    def _has_one_warmup(self) -> Self:
        if self.warmup_steps and self.warmup_fraction is not None:
            raise ValueError("warmup_steps and warmup_fraction are both given; keep one of them")
        return self

    def num_warmup_steps(self, num_steps: int) -> int:
        """Return the number of warm-up steps of a training of ``num_steps``."""
        return self.warmup_steps if self.warmup_fraction is None else round(self.warmup_fraction * num_steps)


class DecayOptions(WarmupOptions):
    """A learning rate that falls until the last step, after an optional warm-up."""

    final_fraction: float = Field(
        0.0, ge=0, le=1, description="learning rate of the last step, as a share of the first"
    )


class MultiHeadOptions(Options):
    """Multi-head scaled dot-product attention."""

    num_heads: int = Field(4, ge=1, description="query heads")
    num_kv_heads: int | None = Field(
        None, ge=1, description="key and value heads, shared by query heads; null: as many"
    )
    head_dim: int | None = Field(None, ge=1, description="width of a head; null: dim / num_heads")
    rope: bool = Field(False, description="rotary position embedding")
    rope_base: float = Field(10_000.0, gt=1, description="base of the wavelengths of the rotary embedding")
    bias: bool = Field(True, description="add biases in the four projections")
    dropout: Fraction = Field(0.0, description="probability of dropping an attention weight, in training")
    backend: Literal["auto", "reference", "sdpa", "chunked"] = Field(
        "auto", description="implementation; auto picks the fastest"
    )

    @model_validator(mode="after")
    def _heads_fit_together(self) -> Self:
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            fitting = ", ".join(str(count) for count in range(1, self.num_heads + 1) if self.num_heads % count == 0)
            raise ValueError(f"num_kv_heads={self.num_kv_heads} must divide num_heads={self.num_heads}; try {fitting}")
        if self.rope and self.head_dim is not None and self.head_dim % 2:
            raise ValueError(f"rope=true turns pairs of numbers, so head_dim={self.head_dim} must be even")
        return self


class StackOptions(Options):
    """A stack of attention blocks."""

    dim: int = Field(64, ge=1, description="width of a token")
    num_layers: int = Field(2, ge=1, description="number of blocks")
    attention: Annotated[Component, Slot("attentions", default="setwise/mha")] = Field(
        description="what lets the tokens of an item exchange information"
    )
    ffn_dim: int | None = Field(None, ge=1, description="width inside the feed-forward layer; null: 4 dim")
    activation: Literal["relu", "gelu", "silu", "swiglu"] = Field("gelu", description="of the feed-forward layer")
    norm: Literal["layer", "rms"] = Field("layer", description="LayerNorm or RMSNorm")
    norm_first: bool = Field(True, description="normalise before attention and feed-forward layer, or after")
    dropout: Fraction = Field(0.0, description="probability of dropping a hidden unit, in training")


class EncoderOptions(StackOptions):
    """Tokens of an item, attention between them, and a prediction off their mean."""

    patch_size: int = Field(4, ge=1, description="side of an image's patches, in pixels; tables have none")


class CausalLMOptions(StackOptions):
    """A decoder-only language model."""

    learned_positions: bool = Field(True, description="add learned positions; off for attentions that know theirs")
