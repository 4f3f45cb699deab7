"""The conformance kit: suites of tests that say whether a plugin keeps the promises which the rest of setwise rests on.

A suite is a class of pytest tests. Subclass it in a test file, say what to test, and run pytest. What is not registered
is tested by overriding the method that builds it. A failure names the broken promise in plain words.

Example:
    >>> from setwise.testing import AttentionSuite
    >>> class TestGroupedQueries(AttentionSuite):
    ...     name = "setwise/mha"
    ...     options = {"num_heads": 4, "num_kv_heads": 2}
"""

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ModuleNotFoundError("setwise.testing needs pytest; run: pip install pytest", name="pytest")

from setwise.testing.attention import AttentionSuite
from setwise.testing.data import DataSuite
from setwise.testing.fixtures import build_component, step_context
from setwise.testing.model import ModelSuite
from setwise.testing.plugin import PluginSuite
from setwise.testing.randomness import seeded
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
