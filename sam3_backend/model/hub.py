"""Fetching a checkpoint from the Hugging Face hub, and saying what to do where that fails."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from sam3_backend.errors import CheckpointError

_FILES = ("*.json", "*.safetensors")


def download(hub_id: str, *, token: str | None, offline: bool, endpoint: str | None = None) -> Path:
    """A directory with the checkpoint's files; only files that are not here yet are fetched.

    Args:
        hub_id: Such as "facebook/sam3".
        token: Hugging Face token, or None for the one of ``huggingface-cli login``.
        offline: Use only what is already here.
        endpoint: Address of a hub other than the public one.

    Raises:
        CheckpointError: The files cannot be had; the message says what to do.
    """
    try:
        return Path(
            snapshot_download(
                hub_id,
                token=token,
                local_files_only=offline,
                endpoint=endpoint,
                allow_patterns=list(_FILES),
            )
        )
    except GatedRepoError as fault:
        raise CheckpointError(
            f"The hub does not let this token read {hub_id}. Ask for access at https://huggingface.co/{hub_id}, "
            "wait until it is granted, then set HF_TOKEN to a token of that account."
        ) from fault
    except RepositoryNotFoundError as fault:
        raise CheckpointError(
            f"The hub knows no {hub_id}, or hides it from this token. Check the name, and HF_TOKEN if it is private."
        ) from fault
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as fault:
        raise CheckpointError(_not_here(hub_id, offline=offline)) from fault
    except HfHubHTTPError as fault:
        raise CheckpointError(
            f"The hub answered with an error for {hub_id}: {_first_line(fault)} If it is about access, set HF_TOKEN."
        ) from fault
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{hub_id} cannot be fetched: {_first_line(fault)}") from fault


def _not_here(hub_id: str, *, offline: bool) -> str:
    if offline:
        return (
            f"{hub_id} is not on this machine and HF_HUB_OFFLINE forbids asking the hub. Run once without it, or set "
            "MODEL_CHECKPOINT to a directory."
        )
    return (
        f"{hub_id} is not on this machine and the hub cannot be reached. Check the network, or set MODEL_CHECKPOINT "
        "to a directory with the files."
    )


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
