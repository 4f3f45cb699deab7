"""What core itself registers, through the same hooks as any plugin: the names ``setwise/...``."""

from __future__ import annotations

from collections.abc import Iterable

from setwise.plugin import (
    AttentionSpec,
    DatasetSpec,
    ModelSpec,
    OptimizerSpec,
    RecipeSource,
    Ref,
    ScheduleSpec,
    TaskSpec,
    hookimpl,
)


@hookimpl
def setwise_models() -> Iterable[ModelSpec]:
    yield ModelSpec(
        "encoder",
        Ref("setwise.models.encoder:build_encoder"),
        Ref("setwise.options:EncoderOptions"),
        "Blocks of any attention over the tokens of an item: the columns of a table, the patches of an image",
    )
    yield ModelSpec(
        "causal-lm",
        Ref("setwise.models.causal_lm:build_causal_lm"),
        Ref("setwise.options:CausalLMOptions"),
        "Decoder-only language model with any causal attention",
    )


@hookimpl
def setwise_attentions() -> Iterable[AttentionSpec]:
    yield AttentionSpec(
        "mha",
        Ref("setwise.attention.multihead:build_mha"),
        Ref("setwise.options:MultiHeadOptions"),
        "Multi-head softmax attention, with grouped queries, rotary positions and a key-value cache",
        invariances=frozenset({"permutation", "padding", "causal", "translation"}),
    )


@hookimpl
def setwise_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        "table",
        Ref("setwise.data.tabular:build_table"),
        Ref("setwise.options:TableOptions"),
        "A table: a CSV or parquet file, an OpenML dataset, or one of scikit-learn's",
        licence="of the table",
        offline=True,
    )
    yield DatasetSpec(
        "digits",
        Ref("setwise.data.images:build_digits"),
        Ref("setwise.options:DigitsOptions"),
        "1,797 handwritten digits, 8 x 8, that come with scikit-learn",
        licence="CC BY 4.0",
        offline=True,
    )
    yield DatasetSpec(
        "mnist",
        Ref("setwise.data.images:build_mnist"),
        Ref("setwise.options:ImageOptions"),
        "70,000 handwritten digits, 28 x 28 (LeCun, Cortes & Burges)",
        licence="CC BY-SA 3.0",
        size=11_594_722,
    )
    yield DatasetSpec(
        "fashion-mnist",
        Ref("setwise.data.images:build_fashion_mnist"),
        Ref("setwise.options:ImageOptions"),
        "70,000 pieces of clothing, 28 x 28, in 10 classes (Xiao, Rasul & Vollgraf, 2017)",
        licence="MIT",
        size=30_878_645,
    )
    yield DatasetSpec(
        "cifar10",
        Ref("setwise.data.images:build_cifar10"),
        Ref("setwise.options:ImageOptions"),
        "60,000 colour photographs, 32 x 32, in 10 classes (Krizhevsky, 2009)",
        size=170_498_071,
    )
    yield DatasetSpec(
        "cifar100",
        Ref("setwise.data.images:build_cifar100"),
        Ref("setwise.options:ImageOptions"),
        "60,000 colour photographs, 32 x 32, in 100 classes (Krizhevsky, 2009)",
        size=169_001_437,
    )
    yield DatasetSpec(
        "text",
        Ref("setwise.data.text:build_text"),
        Ref("setwise.options:TextOptions"),
        "Windows of a text: a file or folder of yours, or the prose of Python's standard library",
        licence="of the text",
        offline=True,
    )


@hookimpl
def setwise_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        "classification",
        Ref("setwise.tasks.classification:build"),
        Ref("setwise.options:ClassificationOptions"),
        "Cross-entropy over one categorical target; accuracy, AUROC for two classes",
    )
    yield TaskSpec(
        "regression",
        Ref("setwise.tasks.regression:build"),
        Ref("setwise.options:RegressionOptions"),
        "Squared error over continuous targets; RMSE and mean absolute error",
    )
    yield TaskSpec(
        "language-modeling",
        Ref("setwise.tasks.language_modeling:build"),
        Ref("setwise.options:LanguageModelingOptions"),
        "Cross-entropy of the next token; perplexity and accuracy",
    )


@hookimpl
def setwise_optimizers() -> Iterable[OptimizerSpec]:
    yield OptimizerSpec(
        "adam",
        Ref("setwise.train.optim:build_adam"),
        Ref("setwise.options:AdamOptions"),
        "Adam (Kingma & Ba, 2015)",
    )
    yield OptimizerSpec(
        "adamw",
        Ref("setwise.train.optim:build_adamw"),
        Ref("setwise.options:AdamWOptions"),
        "Adam with decoupled weight decay (Loshchilov & Hutter, 2019)",
    )
    yield OptimizerSpec(
        "sgd",
        Ref("setwise.train.optim:build_sgd"),
        Ref("setwise.options:SGDOptions"),
        "Stochastic gradient descent with (Nesterov) momentum",
    )


@hookimpl
def setwise_schedules() -> Iterable[ScheduleSpec]:
    yield ScheduleSpec(
        "constant",
        Ref("setwise.train.schedules:build_constant"),
        Ref("setwise.options:WarmupOptions"),
        "Warm-up, then constant",
    )
    yield ScheduleSpec(
        "linear",
        Ref("setwise.train.schedules:build_linear"),
        Ref("setwise.options:DecayOptions"),
        "Warm-up, then a straight line down",
    )
    yield ScheduleSpec(
        "cosine",
        Ref("setwise.train.schedules:build_cosine"),
        Ref("setwise.options:DecayOptions"),
        "Warm-up, then half a cosine down (Loshchilov & Hutter, 2017)",
    )


@hookimpl
def setwise_recipes() -> Iterable[RecipeSource]:
    yield RecipeSource("setwise", "cookbook")
