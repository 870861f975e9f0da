"""This project's own server, as a process beside Label Studio."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from examples.studio.processes import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping


def start_backend(
    log: Path, *, port: int | None = None, env: Mapping[str, str] | None = None, ready_within_s: float = 180
) -> Server:
    """Run ``sam3-backend serve`` on loopback and wait until the model is loaded.

    Args:
        log: File for what it prints.
        port: Port to listen on; a free one by default.
        env: Settings on top of this process's environment.
        ready_within_s: How long to wait; a checkpoint from the hub may have to be downloaded first.

    Raises:
        ServerError: It did not start; the message quotes its log.
    """
    port = port or free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), **(env or {})}
    command = [str(Path(sys.executable).with_name("sam3-backend")), "serve"]
    server = Server("The backend", command, url=f"http://127.0.0.1:{port}", log=log, env=settings)
    server.wait_until_it_answers("/ready", ready_within_s)
    return server
