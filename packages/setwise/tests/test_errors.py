import pytest

from setwise import errors
from setwise.errors import SetwiseError, suggest


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigError", ValueError),
        ("ShapeError", ValueError),
        ("UnknownNameError", LookupError),
        ("PluginError", Exception),
        ("DataError", Exception),
        ("CheckpointError", Exception),
        ("DeviceError", RuntimeError),
    ],
)
def test_an_error_is_a_setwise_error_and_what_python_would_raise(name, builtin):
    error = getattr(errors, name)("what to do")
    assert isinstance(error, SetwiseError)
    assert isinstance(error, builtin)
    assert str(error) == "what to do"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimiser", '; did you mean "optimizer"?'),
        ("attn", '; did you mean "attention"?'),
        ("bf16", '; did you mean "bf16-mixed"?'),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_the_nearest_allowed_word_is_suggested(word, expected):
    assert suggest(word, ["optimizer", "attention", "bf16-mixed"]) == expected
