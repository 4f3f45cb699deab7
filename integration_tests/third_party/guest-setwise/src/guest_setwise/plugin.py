"""What this plugin registers."""

from collections.abc import Iterable

from setwise.plugin import AttentionSpec, CommandSpec, DatasetSpec, RecipeSource, Ref, hookimpl


@hookimpl
def setwise_attentions() -> Iterable[AttentionSpec]:
    yield AttentionSpec(
        "mean",
        Ref("guest_setwise.mean:build"),
        Ref("guest_setwise.config:MeanOptions"),
        "Every token reads the mean of all",
        invariances=frozenset({"permutation", "padding"}),
    )


@hookimpl
def setwise_datasets() -> Iterable[DatasetSpec]:
    yield DatasetSpec(
        "stripes",
        Ref("guest_setwise.stripes:Stripes"),
        Ref("guest_setwise.config:StripesOptions"),
        "Noisy images of horizontal or vertical stripes",
        licence="CC0-1.0",
        offline=True,
    )


@hookimpl
def setwise_recipes() -> Iterable[RecipeSource]:
    yield RecipeSource("guest_setwise")


@hookimpl
def setwise_commands() -> Iterable[CommandSpec]:
    yield CommandSpec("draw", Ref("guest_setwise.commands:draw"), "Print an image of stripes")
