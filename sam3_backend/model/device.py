"""Where the model computes, in which precision, and what is said when it cannot."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from sam3_backend.errors import BackendError, ModelFailed, ModelOutOfMemory, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALL_NETWORK_PARAMETERS = 100_000_000


def resolve_device(device: str) -> torch.device:
    """The device meant by a setting.

    Args:
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        SettingsError: There is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as fault:
        raise SettingsError(f"DEVICE: '{device}' is no device. Use auto, cpu, cuda, cuda:N or mps.") from fault
    if chosen.type == "cuda":
        index = chosen.index or 0
        if index >= torch.cuda.device_count():
            raise SettingsError(
                f"DEVICE: '{device}' asks for CUDA device {index}, and there are {torch.cuda.device_count()}. "
                "Set DEVICE=cpu, or install a driver and a torch that fit the GPU."
            )
        return torch.device("cuda", index)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("DEVICE: 'mps' needs a Mac with Apple silicon. Set DEVICE=cpu.")
    return chosen


def resolve_dtype(dtype: str, device: torch.device, parameters: int) -> torch.dtype:
    """The precision meant by a setting.

    Args:
        dtype: "auto", "float32", "bfloat16" or "float16". Automatic is float16 on CUDA, bfloat16 on CPUs that compute
            in it, else float32; and float32 for models so small that less precision buys nothing.
        device: Where the model computes.
        parameters: How many parameters it has.

    Raises:
        SettingsError: There is no such precision.
    """
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise SettingsError(f"DTYPE: '{dtype}' is none of auto, {', '.join(_DTYPES)}.")
        return _DTYPES[dtype]
    if is_small(parameters):
        return torch.float32
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and _cpu_computes_in_bfloat16():
        return torch.bfloat16
    return torch.float32


def is_small(parameters: int) -> bool:
    """Whether a network is so small that starting its operations costs about as much as computing them."""
    return parameters < _SMALL_NETWORK_PARAMETERS


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Run the model without gradients, and turn its faults into errors of this project.

    Args:
        what: What is being done, for the message.

    Raises:
        ModelOutOfMemory: The device has no memory left.
        ModelFailed: Anything unexpected.
    """
    try:
        with torch.inference_mode():
            yield
    except BackendError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as fault:
        raise _out_of_memory(what) from fault
    except RuntimeError as fault:
        if "not enough memory" in str(fault) or "can't allocate memory" in str(fault):
            raise _out_of_memory(what) from fault
        raise ModelFailed(f"The model failed while {what}. The server's log has the details.") from fault
    except Exception as fault:
        raise ModelFailed(f"The model failed while {what}. The server's log has the details.") from fault


def _out_of_memory(what: str) -> ModelOutOfMemory:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return ModelOutOfMemory(f"The device ran out of memory while {what}. Try again in a moment.")


def _cpu_computes_in_bfloat16() -> bool:
    from torch import cpu

    asks = (getattr(cpu, "_is_avx512_bf16_supported", None), getattr(cpu, "_is_amx_tile_supported", None))
    return any(ask is not None and ask() for ask in asks)
