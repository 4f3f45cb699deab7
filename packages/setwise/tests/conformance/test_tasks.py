from typing import ClassVar

from setwise.testing import TaskSuite


class TestClassification(TaskSuite):
    name = "setwise/classification"
    options: ClassVar = {"label_smoothing": 0.1}
    data: ClassVar = {"name": "setwise/table", "sklearn": "breast_cancer"}
    model: ClassVar = {"name": "setwise/encoder", "dim": 8, "num_layers": 1}


class TestRegression(TaskSuite):
    name = "setwise/regression"
    data: ClassVar = {"name": "setwise/table", "sklearn": "diabetes"}
    model: ClassVar = {"name": "setwise/encoder", "dim": 8, "num_layers": 1}


class TestLanguageModeling(TaskSuite):
    name = "setwise/language-modeling"
    data: ClassVar = {"name": "setwise/text", "source": "stdlib-prose", "length": 13}
    model: ClassVar = {"name": "setwise/causal-lm", "dim": 8, "num_layers": 1}
