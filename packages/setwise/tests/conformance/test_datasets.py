# ruff: noqa: RUF012  # declarations, which nothing changes
from setwise.testing import DataSuite


class TestRows(DataSuite):
    name = "setwise/table"
    options = {"sklearn": "iris"}


class TestSetsOfRows(DataSuite):
    name = "setwise/table"
    options = {"sklearn": "wine", "set_size": 19, "transductive": True, "balance_classes": True}


class TestSetsThatGrow(DataSuite):
    name = "setwise/table"
    options = {"sklearn": "diabetes", "set_size": 97}


class TestWholeTable(DataSuite):
    name = "setwise/table"
    options = {"sklearn": "iris", "set_size": "all", "folds": 5, "fold": 3}


class TestAugmentedImages(DataSuite):
    name = "setwise/digits"
    options = {"augment": ["crop", "flip"]}


class TestText(DataSuite):
    name = "setwise/text"
    options = {"source": "stdlib-prose", "length": 31}
