import threading

import pytest
import torch
from torch import nn

from setwise.attention.capture import capture, record


class Doubler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.computed = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        record(self, "twice", lambda: self._twice(x))
        return x

    def _twice(self, x: torch.Tensor) -> torch.Tensor:
        self.computed += 1
        return 2 * x


def test_tensors_are_named_by_the_module_in_the_model_and_ordered_by_call():
    model = nn.ModuleDict({"a": nn.Sequential(Doubler(), Doubler()), "b": Doubler()})
    with capture(model) as maps:
        model["a"](torch.tensor(3.0))
        model["b"](torch.tensor(5.0))
        model["b"](torch.tensor(7.0))
    assert maps == {"a.0.twice": [6.0], "a.1.twice": [6.0], "b.twice": [10.0, 14.0]}


def test_the_model_itself_needs_no_prefix():
    with capture(Doubler()) as maps:
        pass
    assert maps == {}
    model = Doubler()
    with capture(model) as maps:
        model(torch.tensor(3.0))
    assert list(maps) == ["twice"]


def test_nothing_is_computed_when_nobody_captures():
    model = Doubler()
    model(torch.tensor(3.0))
    with capture(Doubler()):
        model(torch.tensor(3.0))
    assert model.computed == 0


def test_nested_captures_each_get_their_part_and_compute_once():
    model = nn.Sequential(Doubler(), Doubler())
    with capture(model) as outer:
        with capture(model[1]) as inner:
            model(torch.tensor(3.0))
        model(torch.tensor(5.0))
    assert outer == {"0.twice": [6.0, 10.0], "1.twice": [6.0, 10.0]}
    assert inner == {"twice": [6.0]}
    assert model[1].computed == 2


def test_captured_tensors_are_detached():
    model = Doubler()
    with capture(model) as maps:
        model(torch.tensor(3.0, requires_grad=True))
    assert not maps["twice"][0].requires_grad


def test_an_error_inside_ends_the_capture():
    model = Doubler()
    with pytest.raises(ZeroDivisionError), capture(model):
        raise ZeroDivisionError
    model(torch.tensor(3.0))
    assert model.computed == 0


def test_threads_do_not_see_one_anothers_captures():
    model = Doubler()
    with capture(model) as maps:
        thread = threading.Thread(target=model, args=(torch.tensor(3.0),))
        thread.start()
        thread.join()
    assert maps == {}
