from typing import ClassVar

from setwise.testing import DataSuite


class TestRows(DataSuite):
    name = "setwise/table"
    options: ClassVar = {"sklearn": "iris"}


class TestSetsOfRows(DataSuite):
    name = "setwise/table"
    options: ClassVar = {"sklearn": "wine", "set_size": 19, "transductive": True, "balance_classes": True}


class TestSetsThatGrow(DataSuite):
    name = "setwise/table"
    options: ClassVar = {"sklearn": "diabetes", "set_size": 97}


class TestWholeTable(DataSuite):
    name = "setwise/table"
    options: ClassVar = {"sklearn": "iris", "set_size": "all", "folds": 5, "fold": 3}


class TestAugmentedImages(DataSuite):
    name = "setwise/digits"
    options: ClassVar = {"augment": ["crop", "flip"]}


class TestText(DataSuite):
    name = "setwise/text"
    options: ClassVar = {"source": "stdlib-prose", "length": 31}
