"""Servers as child processes: started with a log of their own, waited for, and ended with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOG_TAIL = 3000
"""Characters of a log that an error quotes."""


class ServerError(RuntimeError):
    """A server did not start, or refused what was asked of it."""


class Server:
    """A server process that answers HTTP on loopback; leaving its ``with`` block stops it.

    Attributes:
        url: Where it answers, without a trailing slash.
        log: The file that holds what it printed.
    """

    def __init__(self, name: str, command: Sequence[str], *, url: str, log: Path, env: Mapping[str, str]) -> None:
        """Start it, without waiting.

        Args:
            name: What an error calls it.
            command: Program and arguments.
            url: Where it will answer.
            log: File for what it prints.
            env: Variables on top of this process's own.
        """
        self.url = url
        self.log = log
        self._name = name
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - callers pass command lines of their own
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_it_answers(self, path: str, within_s: float) -> None:
        """Return at the first 2xx answer.

        Args:
            path: What to ask for.
            within_s: How long to keep asking.

        Raises:
            ServerError: It ended, or did not answer in time; the message quotes its log. It is stopped.
        """
        deadline = time.monotonic() + within_s
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                if answers(self.url + path):
                    return
                time.sleep(0.25)
        except BaseException:  # Ctrl-C, above all: nobody else knows of the process yet
            self.stop()
            raise
        ended = self._process.poll()
        self.stop()
        what = f"ended with {ended}" if ended is not None else f"did not answer within {within_s:.0f} s"
        raise ServerError(f"{self._name} {what}. Its log ends:\n{self.log.read_text(errors='replace')[-LOG_TAIL:]}")

    def wait(self) -> None:
        """Return when it has ended by itself."""
        self._process.wait()

    def stop(self) -> None:
        """End it and everything it started."""
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def answers(url: str) -> bool:
    """Whether something says 2xx there."""
    try:
        return httpx.get(url, timeout=10).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
