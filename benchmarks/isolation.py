"""Measurements in processes of their own, so that neither memory nor threads of one reach the next."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def alone(threads: int, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run one measurement in a fresh process.

    Args:
        threads: How many torch computes with there.
        work: A function of a module.
        arguments: What it is called with.
    """
    print(f"{work.__name__} ...", flush=True)
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (threads,)) as pool:
        return pool.apply(work, arguments)
