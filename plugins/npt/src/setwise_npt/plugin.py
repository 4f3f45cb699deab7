"""What this package registers with setwise. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable

from setwise.plugin import ModelSpec, OptimizerSpec, RecipeSource, Ref, ScheduleSpec, TaskSpec, hookimpl


@hookimpl
def setwise_models() -> Iterable[ModelSpec]:
    yield ModelSpec(
        "npt",
        build=Ref("setwise_npt.model:build_npt"),
        config=Ref("setwise_npt.config:NptOptions"),
        summary="Non-Parametric Transformer: attention between the rows, and between the columns, of a table",
    )


@hookimpl
def setwise_tasks() -> Iterable[TaskSpec]:
    yield TaskSpec(
        "masked-modelling",
        build=Ref("setwise_npt.task:build_masked_modelling"),
        config=Ref("setwise_npt.config:MaskedModellingOptions"),
        summary="Predict hidden labels and hidden features of sets of rows, with an annealed trade-off",
    )


@hookimpl
def setwise_optimizers() -> Iterable[OptimizerSpec]:
    yield OptimizerSpec(
        "lamb",
        build=Ref("setwise_npt.optim:build_lamb"),
        config=Ref("setwise_npt.config:LambOptions"),
        summary="LAMB without bias correction, by default inside Lookahead",
    )
    yield OptimizerSpec(
        "lookahead-adam",
        build=Ref("setwise_npt.optim:build_lookahead_adam"),
        config=Ref("setwise_npt.config:LookaheadAdamOptions"),
        summary="Adam inside Lookahead",
    )


@hookimpl
def setwise_schedules() -> Iterable[ScheduleSpec]:
    flat_and_anneal, warmup = "setwise_npt.config:FlatAndAnnealOptions", "setwise_npt.config:WarmupOptions"
    for name, function, config, summary in (
        ("flat-and-anneal", "flat_and_anneal", flat_and_anneal, "Full learning rate, then half a cosine to zero"),
        ("linear-warmup", "linear_warmup", warmup, "Linear rise, then a straight line to zero"),
        ("polynomial", "polynomial_decay_warmup", warmup, "Linear rise, then a straight line to 1e-7"),
        (
            "cosine-cyclic",
            "cosine_cyclic",
            warmup,
            "Linear rise, then cosine cycles, each twice as long and half as high",
        ),
    ):
        yield ScheduleSpec(name, Ref(f"setwise_npt.schedules:{function}"), Ref(config), summary)


@hookimpl
def setwise_recipes() -> Iterable[RecipeSource]:
    yield RecipeSource("setwise_npt")
