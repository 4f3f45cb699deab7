"""Reading what layers compute on the way, such as attention weights, without changing what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["capture", "record"]

Maps = dict[str, list[Tensor]]


class _Capture(NamedTuple):
    names: dict[nn.Module, str]
    maps: Maps


# A context variable, so that threads (and asynchronous tasks) that run at once do not read one another's maps.
_ACTIVE: ContextVar[tuple[_Capture, ...]] = ContextVar("setwise_captures", default=())


@contextmanager
def capture(model: nn.Module) -> Iterator[Maps]:
    """Collect what the layers of a model record while the context is open.

    Captures nest, and each sees the modules of its own model. Recorded tensors are detached. A module that
    torch.compile has compiled records nothing.

    Args:
        model: the model whose layers are of interest.

    Yields:
        Tensors by name, one per call in the order of calls. A name is the layer's name in the model and that of the
        tensor, as in `"blocks.0.attention.weights"`.

    Example:
        >>> import torch
        >>> from setwise.attention import MultiHeadAttention
        >>> layer = MultiHeadAttention(8, num_heads=2)
        >>> with capture(layer) as maps:
        ...     out = layer(torch.randn(1, 5, 8))
        >>> maps["weights"][0].shape
        torch.Size([1, 2, 5, 5])
    """
    names = {module: name for name, module in model.named_modules()}
    maps: Maps = {}
    token = _ACTIVE.set((*_ACTIVE.get(), _Capture(names, maps)))
    try:
        yield maps
    finally:
        _ACTIVE.reset(token)


def record(module: nn.Module, name: str, compute: Callable[[], Tensor]) -> None:
    """Hand a tensor to every open capture that sees a module; when there is none, nothing is computed.

    Args:
        module: the layer that records, usually `self`.
        name: what the tensor is, such as `"weights"`.
        compute: returns the tensor; called once at most.
    """
    if torch.compiler.is_compiling():
        return
    captures = _ACTIVE.get()
    if not captures:
        return
    seeing = [active for active in captures if module in active.names]
    if seeing:
        value = compute().detach()
        for active in seeing:
            active.maps.setdefault(f"{active.names[module]}.{name}".lstrip("."), []).append(value)
