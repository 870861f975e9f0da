"""Fetching a checkpoint from the Hugging Face hub, and saying what to do where that fails."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, RevisionNotFoundError

from sam3_backend.errors import CheckpointError

_FILES = ("*.json", "*.safetensors")


def download(hub_name: str, *, token: str | None, offline: bool, endpoint: str | None = None) -> Path:
    """A directory with the checkpoint's files; only files that are not here yet are fetched.

    Args:
        hub_name: A hub id such as "facebook/sam3", whose newest files are meant, or with a commit, tag or branch:
            "facebook/sam3@<revision>".
        token: Hugging Face token, or None for the one of ``huggingface-cli login``.
        offline: Use only what is already here.
        endpoint: Address of a hub other than the public one.

    Raises:
        CheckpointError: The files cannot be had; the message says what to do.
    """
    hub_id, _, revision = hub_name.partition("@")
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision or None,
                token=token,
                local_files_only=offline,
                endpoint=endpoint,
                allow_patterns=list(_FILES),
            )
        )
    except RevisionNotFoundError as fault:
        raise CheckpointError(
            f"The hub's {hub_id} has no revision '{revision}'. Name a commit, tag or branch that "
            f"https://huggingface.co/{hub_id}/tree/main offers."
        ) from fault
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as fault:
        raise CheckpointError(_way_out(hub_name, _status(fault), offline=offline)) from fault
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{hub_name} cannot be fetched: {_first_line(fault)}") from fault


def _status(fault: BaseException | None) -> int | None:
    """The HTTP status behind a fault; the library hides some of them as causes of "not in the cache"."""
    while fault is not None:
        response = getattr(fault, "response", None)
        if response is not None:
            return int(response.status_code)
        fault = fault.__cause__
    return None


def _way_out(hub_name: str, status: int | None, *, offline: bool) -> str:
    hub_id = hub_name.partition("@")[0]
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return (
            f"The hub does not let this token read {hub_id} ({status}). Ask for access at "
            f"https://huggingface.co/{hub_id}, wait until it is granted, then set HF_TOKEN to a token of that account."
        )
    if status == HTTPStatus.NOT_FOUND:
        return f"The hub knows no {hub_id}, or hides it from this token. Check the name, and HF_TOKEN if it is private."
    if status is not None:
        return f"The hub answered {status} for {hub_name}. Try again later, or set MODEL_CHECKPOINT to a directory."
    if offline:
        return (
            f"{hub_name} is not on this machine and HF_HUB_OFFLINE forbids asking the hub. Run once without it, or set "
            "MODEL_CHECKPOINT to a directory."
        )
    return (
        f"{hub_name} is not on this machine and the hub cannot be reached. Check the network, or set MODEL_CHECKPOINT "
        "to a directory with the files."
    )


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
