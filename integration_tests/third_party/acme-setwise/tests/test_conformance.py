"""The promises of every plugin, checked by the suites of core."""

from typing import ClassVar

from setwise.testing import AttentionSuite, DataSuite, PluginSuite, RecipeSuite


class TestMean(AttentionSuite):
    name = "acme/mean"


class TestStripes(DataSuite):
    name = "acme/stripes"
    options: ClassVar = {"num_items": 13}


class TestPlugin(PluginSuite):
    plugin = "acme"


class TestRecipes(RecipeSuite):
    plugin = "acme"
