"""Attention over sets: one way to define, train and share models that attend over datapoints, positions and relations.

What is used most is here. ``import setwise`` imports none of it: each name is imported when it is first used.

Example:
    >>> import setwise
    >>> setwise.default_registry().get("optimizers", "adamw").qualified
    'setwise/adamw'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from setwise import attention as attention
    from setwise.attention import AbstractAttention as AbstractAttention
    from setwise.attention import MultiHeadAttention as MultiHeadAttention
    from setwise.config import Component as Component
    from setwise.config import Options as Options
    from setwise.config import RunConfig as RunConfig
    from setwise.config import Slot as Slot
    from setwise.config import TrainerConfig as TrainerConfig
    from setwise.config import dump_config as dump_config
    from setwise.config import load_config as load_config
    from setwise.data.dataset import AbstractDataModule as AbstractDataModule
    from setwise.data.spec import DataSpec as DataSpec
    from setwise.errors import SetwiseError as SetwiseError
    from setwise.plugin import Ref as Ref
    from setwise.plugin import hookimpl as hookimpl
    from setwise.registry import Registry as Registry
    from setwise.registry import default_registry as default_registry
    from setwise.tasks.task import AbstractTask as AbstractTask
    from setwise.train.session import load_run as load_run
    from setwise.train.trainer import Trainer as Trainer

    __version__: str

_HOMES = {
    "AbstractAttention": "setwise.attention",
    "AbstractDataModule": "setwise.data.dataset",
    "AbstractTask": "setwise.tasks.task",
    "Component": "setwise.config",
    "DataSpec": "setwise.data.spec",
    "MultiHeadAttention": "setwise.attention",
    "Options": "setwise.config",
    "Ref": "setwise.plugin",
    "Registry": "setwise.registry",
    "RunConfig": "setwise.config",
    "SetwiseError": "setwise.errors",
    "Slot": "setwise.config",
    "Trainer": "setwise.train.trainer",
    "TrainerConfig": "setwise.config",
    "default_registry": "setwise.registry",
    "dump_config": "setwise.config",
    "hookimpl": "setwise.plugin",
    "load_config": "setwise.config",
    "load_run": "setwise.train.session",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "attention":
        value = importlib.import_module("setwise.attention")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("setwise")
    else:
        raise AttributeError(f'module "setwise" has no attribute "{name}"')
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "attention", "__version__"})
