from setwise.testing import PluginSuite


class TestCore(PluginSuite):
    plugin = "setwise"
