from typing import ClassVar

from setwise.testing import RecipeSuite


class TestCookbook(RecipeSuite):
    plugin = "setwise"
    overrides: ClassVar = {
        "prose": ["data.length=32", "data.val_fraction=0.01", "data.test_fraction=0.01", "model.num_layers=1"],
    }
