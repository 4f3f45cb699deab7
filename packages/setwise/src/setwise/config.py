"""The configuration of a run: what may stand in a recipe, how it is read, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from setwise.component import Component, Options, Slot, load_reference, problem_at
from setwise.document import Document, dump_yaml
from setwise.errors import ConfigError
from setwise.problems import describe_problems, explain
from setwise.recipes import read_text
from setwise.registry import Registry, default_registry

__all__ = [
    "Component",
    "Options",
    "RunConfig",
    "Slot",
    "TrainerConfig",
    "dump_config",
    "load_component",
    "load_config",
    "parse_duration",
]


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``2h30m``, ``90s`` or ``1d12h``.

    Raises:
        ConfigError: the text is something else.

    Example:
        >>> parse_duration("2h30m")
        9000.0
    """
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if match is None or not any(match.groups()):
        raise ConfigError(
            f'given "{text}", must be a duration in days, hours, minutes and seconds such as 2h30m or 90s'
        )
    seconds = sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
    if seconds <= 0:
        raise ConfigError(f'given "{text}", must be longer than zero seconds')
    return seconds


def _precision_name(value: Any) -> Any:
    return "32" if type(value) is int and value == 32 else value  # in YAML, 32 without quotes is a number


Count = Annotated[int, Field(ge=1)]
Precision = Annotated[Literal["auto", "32", "bf16-mixed", "16-mixed"], BeforeValidator(_precision_name)]


class TrainerConfig(Options):
    """How a run is trained, evaluated and saved."""

    max_steps: Count | None = Field(None, description="optimizer steps to train for; exclusive with max_epochs")
    max_epochs: Count | None = Field(None, description="passes over the training data; exclusive with max_steps")
    batch_size: Count = Field(1, description="items per optimizer step, over all processes")
    micro_batch_size: Count | None = Field(None, description="items per forward pass; null: all items of a process")
    eval_every: Count | None = Field(None, description="steps between evaluations; null: once per epoch")
    eval_splits: list[str] = Field(["val"], description="splits evaluated during training")
    final_splits: list[str] = Field(["val", "test"], description="splits evaluated at the end with the best weights")
    log_every: Count = Field(10, description="steps between lines of training metrics")
    checkpoint_every: Count | None = Field(None, description="steps between checkpoints; null: at evaluations")
    keep_checkpoints: Count = Field(2, description="newest checkpoints kept besides the best one")
    monitor: str = Field("val/loss", description="<split>/<metric> that decides which weights are the best")
    monitor_mode: Literal["min", "max"] = Field("min", description="whether a small or a large value is good")
    patience: Count | None = Field(None, description="evaluations without improvement before stopping; null: never")
    max_time: str | None = Field(None, description="wall-clock limit such as 2h30m or 90s; null: none")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; null: no clipping")
    clip_value: float | None = Field(None, gt=0, description="largest magnitude of a gradient entry; null: no clipping")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:<index> or mps")
    precision: Precision = Field(
        "auto", description="precision of the forward pass; auto: bf16-mixed where it is native"
    )
    tf32: bool = Field(True, description="let float32 matrix products use TF32 where the device has it")
    deterministic: bool = Field(True, description="refuse operations that give different bits from run to run")
    compile: bool = Field(False, description="compile the model with torch.compile")
    num_workers: int = Field(0, ge=0, description="processes that prepare data; 0: the training process itself")
    strategy: Literal["ddp", "fsdp"] = Field("ddp", description="how several processes share the work")
    trackers: list[str] = Field([], description="where metrics go besides metrics.jsonl, e.g. tensorboard")

    @field_validator("max_time")
    @classmethod
    def _is_duration(cls, value: str | None) -> str | None:
        if value is not None:
            parse_duration(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems: dict[str, str] = {}
        if (self.max_steps is None) == (self.max_epochs is None):
            given = "neither is given" if self.max_steps is None else "both are given"
            problems["max_steps"] = f"exactly one of max_steps and max_epochs must be given; {given}"
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            problems["micro_batch_size"] = f"given {self.micro_batch_size}, must divide batch_size={self.batch_size}"
        if self.clip_norm is not None and self.clip_value is not None:
            problems["clip_value"] = "clip_norm and clip_value are both given; keep one of them"
        split, slash, metric = self.monitor.partition("/")
        if not (split and slash and metric):
            problems["monitor"] = f'given "{self.monitor}", must be <split>/<metric>, such as val/loss'
        elif split not in self.eval_splits and (self.eval_splits or self.patience):
            splits = ", ".join(self.eval_splits)
            problems["monitor"] = f'given "{self.monitor}", but "{split}" is not one of eval_splits=[{splits}]'
        if problems:
            details = [problem_at((key,), "inconsistent", message, self) for key, message in problems.items()]
            raise ValidationError.from_exception_data("TrainerConfig", details)
        return self


class RunConfig(Options):
    """Everything that decides what a run computes."""

    model: Annotated[Component, Slot("models")] = Field(description="the model, by name, and its options")
    data: Annotated[Component, Slot("datasets")] = Field(description="the dataset, by name, and its options")
    task: Annotated[Component, Slot("tasks")] = Field(
        description="the task (loss and metrics), by name, and its options"
    )
    optimizer: Annotated[Component, Slot("optimizers")] = Field(description="the optimizer, by name, and its options")
    schedule: Annotated[Component, Slot("schedules", default="setwise/constant")] = Field(
        description="how the learning rate changes, by name, and its options"
    )
    trainer: TrainerConfig = Field(description="how long and how to train")
    seed: int = Field(
        0, ge=0, lt=2**63, description="decides initial weights, order of the data, augmentation and masks"
    )


def load_config(
    source: Path | str,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    *,
    label: str = "recipe",
) -> RunConfig:
    """Read a configuration and report everything that is wrong with it at once.

    Args:
        source: a file, or the text of a recipe.
        overrides: ``path.to.key=value`` each, applied in order, the value being YAML; see
            :meth:`setwise.document.Document.override` for what changing a ``name`` does.
        registry: where names are looked up; the installed plugins when None.
        label: what messages call a ``source`` that is text, in place of the name of a file.

    Raises:
        ConfigError: with one line ``<file>:<line>: <path>: <what was given, what is allowed>`` per problem.

    Example:
        >>> load_config("seed: 1", ["trainer.max_steps=5", "trainer.max_stps=5"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        setwise.errors.ConfigError: 5 problems in the configuration:
        ...
          override trainer.max_stps=5: trainer.max_stps: unknown key; did you mean "max_steps"?
    """
    registry = registry or default_registry()
    if isinstance(source, Path):
        label, source = str(source), read_text(source, str(source))
    document = Document.parse(source)
    if document.problems and not document.data:
        raise ConfigError(describe_problems(document.problems, label))
    return _validate(RunConfig, document, overrides, registry, label)


def load_component(kind: str, name: str, overrides: Sequence[str] = (), registry: Registry | None = None) -> Component:
    """Return a component by its name, with options given as ``option=value``.

    Args:
        kind: one of :data:`setwise.registry.KINDS`.
        name: as in a recipe.
        overrides: options, as in :func:`load_config`.
        registry: where the name is looked up; the installed plugins when None.

    Raises:
        UnknownNameError: there is no such component.
        ConfigError: the options are wrong.

    Example:
        >>> load_component("optimizers", "adamw", ["lr=1e-2"]).options.lr
        0.01
    """
    registry = registry or default_registry()
    entry = registry.get(kind, name)
    model = load_reference(entry.qualified, entry.spec, "config")
    options = _validate(model, Document(), overrides, registry, entry.qualified)
    return Component(kind, entry.qualified, options, entry.spec)


def dump_config(config: RunConfig) -> str:
    """Write a configuration, with all defaults, as YAML that :func:`load_config` reads back to an equal one."""
    return dump_yaml(config.model_dump(mode="json"))


_Model = TypeVar("_Model", bound=BaseModel)


def _validate(
    model: type[_Model], document: Document, overrides: Sequence[str], registry: Registry, label: str
) -> _Model:
    """Apply overrides and validate; raise the problems of the text, of the overrides and of the values together."""
    for override in overrides:
        document.override(override)
    problems = list(document.problems)
    try:
        validated = model.model_validate(document.data, context={"registry": registry})
    except ValidationError as error:
        problems += explain(error, document)
    else:
        if not problems:
            return validated
    raise ConfigError(describe_problems(problems, label, overrides))
