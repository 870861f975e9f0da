"""Functions of tensors, recorded once and from then on run without Python.

Each operation that Python asks torch for gives Python's lock away and has to get it back. As soon as other threads
answer requests, a function of a hundred small operations spends more time on that than on computing. Recorded, it is
one call.

torch calls its recorder deprecated and names ``torch.compile`` instead, which needs a C++ compiler wherever the server
runs, and keeps the lock; see ADR 0015.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Function(Protocol):
    """What can be recorded."""

    def __call__(self, kind: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute from tensors alone.

        Args:
            kind: What decides, with the number of tensors, which operations are made. Sizes of tensors decide nothing,
                and are read as ``tensor.shape``, which is recorded, too.
            tensors: What to compute with.
        """


class Recorded:
    """A function, recorded when it is first called with each kind and number of tensors.

    Args:
        function: Its parameters are taken as they are then, and must not change.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._recordings: dict[tuple[Hashable, int], Callable[..., tuple[Tensor, ...]]] = {}

    def __call__(self, kind: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the function gives."""
        recording = self._recordings.get((kind, len(tensors)))
        if recording is None:
            recording = self._recordings[kind, len(tensors)] = _record(self._function, kind, tensors)
        return recording(*tensors)


def _record(function: Function, kind: Any, tensors: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
    with warnings.catch_warnings():
        for expected in (DeprecationWarning, FutureWarning):  # but not what it has to say of the function
            warnings.simplefilter("ignore", expected)
        traced = torch.jit.trace(_Call(function, kind).eval(), tensors, check_trace=False)  # type: ignore[no-untyped-call]
        recording: Callable[..., tuple[Tensor, ...]] = torch.jit.freeze(traced)
    return recording


class _Call(nn.Module):
    """The recorder takes modules alone."""

    def __init__(self, function: Function, kind: Any) -> None:
        super().__init__()
        self._call = function
        self._kind = kind

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._call(self._kind, *tensors)
