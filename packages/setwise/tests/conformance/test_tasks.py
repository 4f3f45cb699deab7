# ruff: noqa: RUF012  # declarations, which nothing changes
from setwise.testing import TaskSuite


class TestClassification(TaskSuite):
    name = "setwise/classification"
    options = {"label_smoothing": 0.1}
    data = {"name": "setwise/table", "sklearn": "breast_cancer"}
    model = {"name": "setwise/encoder", "dim": 8, "num_layers": 1}


class TestRegression(TaskSuite):
    name = "setwise/regression"
    data = {"name": "setwise/table", "sklearn": "diabetes"}
    model = {"name": "setwise/encoder", "dim": 8, "num_layers": 1}


class TestLanguageModeling(TaskSuite):
    name = "setwise/language-modeling"
    data = {"name": "setwise/text", "source": "stdlib-prose", "length": 13}
    model = {"name": "setwise/causal-lm", "dim": 8, "num_layers": 1}
