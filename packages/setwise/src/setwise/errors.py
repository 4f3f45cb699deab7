"""The errors that setwise raises.

Every error's `str` is a message for the person who runs the program: what was
given, what is allowed and what to do. Each error that reports a bad value also
derives from the built-in exception that Python would raise in its place, so
callers who know nothing of setwise can still catch it.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "PluginError",
    "SetwiseError",
    "ShapeError",
    "TrainingError",
    "UnknownNameError",
    "suggest",
]


class SetwiseError(Exception):
    """Base of all errors raised by setwise; `str(error)` is the message for the user."""


class ConfigError(SetwiseError, ValueError):
    """Raised when a configuration value is missing, of the wrong type or out of range."""


class ShapeError(SetwiseError, ValueError):
    """Raised when a tensor or array has another shape or dtype than the one asked for."""


class UnknownNameError(SetwiseError, LookupError):
    """Raised when a name is not registered, or not a key, where it was looked up."""


class PluginError(SetwiseError):
    """Raised when an installed plugin cannot be loaded or breaks its contract."""


class DataError(SetwiseError):
    """Raised when data cannot be read or does not fit what was declared of it."""


class CheckpointError(SetwiseError):
    """Raised when a checkpoint is missing, damaged or belongs to another model or version."""


class TrainingError(SetwiseError, ArithmeticError):
    """Raised when training cannot go on, because the loss is not finite any more."""


class DeviceError(SetwiseError, RuntimeError):
    """Raised when a device, precision or amount of memory asked for is not there."""


def suggest(word: str, allowed: Iterable[str]) -> str:
    """Name the allowed word nearest to a misspelt one, ready to end an error message.

    Args:
        word: What was given.
        allowed: The words that would have been accepted.

    Returns:
        `'; did you mean "x"?'`, or the empty string when nothing is near.

    Example:
        >>> suggest("atention", ["attention", "optimizer"])
        '; did you mean "attention"?'
    """
    words = list(allowed)
    matches = difflib.get_close_matches(word, words, n=1)
    if not matches and word:
        matches = [longer for longer in words if longer.startswith(word)]
    return f'; did you mean "{matches[0]}"?' if matches else ""
