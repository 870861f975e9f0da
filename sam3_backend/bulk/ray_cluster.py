"""The Ray that a run works on: a cluster that is there already, or one of this machine that lives as long as the run.

Where there is none to be had it says so in one line, with the way out, and soon: Ray itself asks an address at which
nothing answers for minutes.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sam3_backend.errors import BackendError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTS_WITHIN_S = 60.0
CONNECT = "import ray, sys\ntry: ray.init(sys.argv[1])\nexcept Exception as fault: print(fault)"
"""Connects to a cluster, or writes why that cannot be."""


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Be connected to the Ray that ``RAY_ADDRESS`` says, or to one of this machine where that is not set.

    Takes SIGTERM over, as Ray does.

    Raises:
        SettingsError: Ray is not installed, or no Ray is where it is said to be.
        BackendError: Ray cannot start.
    """
    try:
        import ray
        import ray.data
        from ray._private.services import get_ray_address_from_environment
    except ImportError as fault:
        raise SettingsError("--engine ray needs Ray. In a clone of this project: pip install '.[ray]'") from fault
    try:
        # Left to itself, Ray would go to where a cluster of this machine was last, even if that is gone.
        address = get_ray_address_from_environment("local", None)
        reach(address)
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except SettingsError:
        raise
    except Exception as fault:  # Ray raises Exception itself, too
        said = str(fault).strip().partition("\n")[0].rstrip(".") or type(fault).__name__
        raise BackendError(f"Ray cannot start: {said}. Without --engine ray the same command needs none.") from fault
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str, within_s: float = CONNECTS_WITHIN_S) -> None:
    """See whether there is a Ray at an address, HOST:PORT; what looks otherwise is for Ray to read.

    Connecting cannot be given up from inside, so that another process tries it first, which can be killed.

    Args:
        address: The address.
        within_s: How long to try, seconds.

    Raises:
        SettingsError: There is none.
    """
    host, _, port = address.rpartition(":")
    if not host or "://" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), within_s).close()
        command = [sys.executable, "-c", CONNECT, address]
        tried = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)  # noqa: S603
        why = " ".join(tried.stdout.split()).rstrip(".")
    except OSError as fault:
        why = fault.strerror or str(fault)
    except subprocess.TimeoutExpired:
        why = f"tried for {within_s:.0f} s"
    if why:
        raise SettingsError(
            f"No Ray answers at {address}: {why}. Start that cluster, set RAY_AUTH_TOKEN to its token if it has one, "
            "or RAY_ADDRESS to the HOST:PORT of another one; without RAY_ADDRESS it is a Ray of this machine alone."
        )
