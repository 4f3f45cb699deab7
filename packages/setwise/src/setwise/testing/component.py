"""What the suites of components share: which component they test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from setwise.config import Component
from setwise.errors import ConfigError
from setwise.testing.fixtures import Section, find_component


class AbstractComponentSuite:
    """What the suites of components share: which component they test.

    Attributes:
        kind: one of :data:`setwise.registry.KINDS`.
        name: name of the registered component.
        options: its options, as in a recipe.
    """

    kind: ClassVar[str]
    name: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}

    def component(self) -> Component:
        """Return the component under test, with its validated options.

        Raises:
            ConfigError: the suite does not say which.
        """
        return find_component(self.kind, self.section("name", {"name": self.name, **self.options}))

    def section(self, attribute: str, section: Section) -> Section:
        """Return a section of the suite.

        Raises:
            ConfigError: it does not name a component.
        """
        if not (section if isinstance(section, str) else section.get("name")):
            raise ConfigError(
                f"{type(self).__name__} does not say what to test with: set its attribute {attribute}, or override "
                "the method that builds it"
            )
        return section
