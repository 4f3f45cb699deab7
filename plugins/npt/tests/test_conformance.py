"""The promises of every plugin, checked by the suites of core."""

from typing import ClassVar

from setwise.testing import ModelSuite, PluginSuite, RecipeSuite, TaskSuite

SETS = {"name": "setwise/table", "sklearn": "iris", "set_size": 13, "transductive": True}


class TestPlugin(PluginSuite):
    plugin = "npt"


class TestModel(ModelSuite):
    name = "npt/npt"
    options: ClassVar = {"column_dim": 8, "num_heads": 2, "num_layers": 2}
    data: ClassVar = SETS
    task: ClassVar = {"name": "npt/masked-modelling", "feature_mask": {"train": 0.5}}
    num_items = 3
    without_gradient = ("*.key.bias",)  # it adds the same to all scores of a query, which softmax does not see


class TestMaskedModelling(TaskSuite):
    name = "npt/masked-modelling"
    options: ClassVar = {"label_mask": {"train": 0.5, "val": 0.5}, "feature_mask": {"train": 0.3, "val": 0.2}}
    data: ClassVar = SETS
    model: ClassVar = {"name": "npt/npt", "column_dim": 8, "num_heads": 2, "num_layers": 2}


class TestMaskedModellingOfNumbers(TaskSuite):
    name = "npt/masked-modelling"
    options: ClassVar = {"tradeoff": -1, "feature_mask": {"train": 0.3}}
    data: ClassVar = {"name": "setwise/table", "sklearn": "diabetes", "set_size": 17}
    model: ClassVar = {"name": "npt/npt", "column_dim": 8, "num_heads": 2, "num_layers": 2}


class TestRecipes(RecipeSuite):
    plugin = "npt"
    overrides: ClassVar = {"breast-cancer-paper": ["model.column_dim=8", "model.num_layers=2"]}
