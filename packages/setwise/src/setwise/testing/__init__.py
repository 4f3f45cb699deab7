"""The conformance kit: suites of tests that say whether a plugin keeps the promises which the rest of setwise rests on.

A suite is a class of pytest tests. Subclass it in a test file, say what to test, and run pytest::

    from setwise.testing import AttentionSuite

    class TestMine(AttentionSuite):
        name = "mine/attention"
        options = {"num_heads": 2}

The same works for what is not registered: override ``build``. A failure names the broken promise in plain words.
"""

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ModuleNotFoundError("setwise.testing needs pytest; run: pip install pytest", name="pytest")

from setwise.testing.attention import AttentionSuite
from setwise.testing.data import DataSuite
from setwise.testing.fixtures import build_component, seeded, step_context
from setwise.testing.model import ModelSuite
from setwise.testing.plugin import PluginSuite
from setwise.testing.recipe import RecipeSuite
from setwise.testing.task import TaskSuite

__all__ = [
    "AttentionSuite",
    "DataSuite",
    "ModelSuite",
    "PluginSuite",
    "RecipeSuite",
    "TaskSuite",
    "build_component",
    "seeded",
    "step_context",
]
