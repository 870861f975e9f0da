"""How much one device is given at a time: pictures and texts in one pass, threads for a call, calls side by side.

All of it follows from the kind of device and the size of the network, but for the pictures in one pass on a GPU, which
are tried out.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from sam3_backend.errors import ModelOutOfMemory
from sam3_backend.model.batching import most_at_once
from sam3_backend.model.device import is_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXTS_AT_ONCE_ON_GPU, CLICKS_AT_ONCE_ON_GPU = 8, 4
TEXTS_AT_ONCE_OF_SMALL, TEXTS_AT_ONCE_UNAWAITED = 2, 4
"""Eight texts on the demo checkpoint took 72 ms one by one, 55 in pairs, 49 by four; but a click waits for a pass."""
CLICKS_AT_ONCE_OF_SMALL = 2
"""Eight annotators who never pause were given 360 masks a second by pairs, 340 by threes or fours."""


class Pace:
    """The pace of one predictor.

    Args:
        device: Where it computes.
        parameters: How many its network has.

    Attributes:
        texts_at_once: Texts on one picture that go through the network together. A CPU with a large network gains
            nothing from more than one.
        clicks_at_once: Clicks on any pictures that do; likewise.
        pictures_at_once: Pictures that do; 1 until ``try_pictures``.
    """

    def __init__(self, device: torch.device, parameters: int) -> None:
        self._device = device
        self._is_small_on_cpu = device.type == "cpu" and is_small(parameters)
        self._lock = threading.Lock()
        self._clicking = 0
        self._threads = 1
        self.texts_at_once = self.clicks_at_once = self.pictures_at_once = 1
        if device.type == "cuda":
            self.texts_at_once, self.clicks_at_once = TEXTS_AT_ONCE_ON_GPU, CLICKS_AT_ONCE_ON_GPU
        elif self._is_small_on_cpu:
            self.texts_at_once, self.clicks_at_once = TEXTS_AT_ONCE_OF_SMALL, CLICKS_AT_ONCE_OF_SMALL

    @contextmanager
    def clicking(self) -> Iterator[None]:
        """Answer clicks: with a small network on a CPU, in the calling thread alone.

        Such a call is made of a hundred operations of some microseconds. Where a second thread has a processor to
        itself they take a fifth less; where it must wait for one, many times as long: a click on the demo checkpoint
        took 2.8 ms, 2.2 with two threads on two idle processors, and 17 while another process used them.
        """
        if not self._is_small_on_cpu:
            yield
            return
        # The number is the whole process's: the first to click takes the threads, and the last gives them back.
        with self._lock:
            if not self._clicking:
                self._threads = torch.get_num_threads()
                torch.set_num_threads(1)
            self._clicking += 1
        try:
            yield
        finally:
            with self._lock:
                self._clicking -= 1
                if not self._clicking:
                    torch.set_num_threads(self._threads)

    def try_pictures(self, look: Callable[[int], object]) -> None:
        """Find out how many pictures to look at in one pass. A CPU is not asked: one picture fills it.

        Args:
            look: Looks at so many pictures.
        """

        def seconds_of(count: int) -> float:
            try:
                look(count)  # the first of a size does one-time work
                torch.cuda.synchronize(self._device)
                began = time.perf_counter()
                look(count)
                torch.cuda.synchronize(self._device)
            except ModelOutOfMemory:
                return float("inf")
            return time.perf_counter() - began

        if self._device.type == "cuda":
            self.pictures_at_once = most_at_once(seconds_of)

    def spread(self) -> int:
        """Prepare for calls that nobody waits for, in a process that makes no others.

        A small network on a CPU then computes every call in one thread, so that no processor waits for another.

        Returns:
            How many calls to make at a time.
        """
        if not self._is_small_on_cpu:
            return 1
        self.texts_at_once = TEXTS_AT_ONCE_UNAWAITED
        processors = torch.get_num_threads()
        torch.set_num_threads(1)
        return processors
