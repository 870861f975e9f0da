"""What only one process may do at a time: a locked file, which the kernel lets go of however that process ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from typing import BinaryIO


def hold(path: Path, said: str) -> BinaryIO:
    """Lock a file until what is returned is closed.

    Args:
        path: The file; made where there is none, and left where it is.
        said: What to tell the person whose process comes second.

    Raises:
        BackendError: Another process holds it, or it cannot be made.
    """
    try:
        guard = os.fdopen(_open(path), "rb")
    except OSError as fault:
        raise BackendError(f"{path} cannot be written: {fault.strerror}.") from fault
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        guard.close()
        raise BackendError(said) from fault
    return guard


def hold_run(place: str, version: str) -> BinaryIO:
    """Keep other processes of this machine from storing the same predictions, whatever their journals; see ``hold``.

    Args:
        place: Label Studio's address and the project.
        version: Model version of the predictions.
    """
    name = f"sam3-backend-{run_fingerprint(place, version)}.lock"
    said = (
        f"Another process on this machine is storing predictions of this model version in {place}. Wait for it, or "
        "stop it: the same command then goes on with what is left."
    )
    return hold(Path(tempfile.gettempdir()) / name, said)


def run_fingerprint(place: str, version: str) -> str:
    """What a run is called where its place and version are too long: 12 hex digits."""
    return hashlib.sha256(f"{place}\n{version}".encode()).hexdigest()[:12]


def _open(path: Path) -> int:
    try:  # first as it is: another user's file in a shared folder can be locked, but not made again
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
