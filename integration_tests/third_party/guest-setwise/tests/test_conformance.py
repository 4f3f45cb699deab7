"""The promises of every plugin, checked by the suites of core."""

from typing import ClassVar

from setwise.testing import AttentionSuite, DataSuite, PluginSuite, RecipeSuite


class TestMean(AttentionSuite):
    name = "guest/mean"


class TestStripes(DataSuite):
    name = "guest/stripes"
    options: ClassVar = {"num_items": 13}


class TestPlugin(PluginSuite):
    plugin = "guest"


class TestRecipes(RecipeSuite):
    plugin = "guest"
