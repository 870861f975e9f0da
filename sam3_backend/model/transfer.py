"""Embeddings from the device to host memory and back, for a store that other processes share.

Knows torch and nothing of where the bytes go.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from sam3_backend.embeddings.codec import HostEmbedding, HostTensor
from sam3_backend.embeddings.embedding import Embedding
from sam3_backend.model.device import answering


class DeviceTransfer:
    """Moves embeddings between host memory and one device.

    Args:
        device: A torch device name, such as ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def to_host(self, embedding: Embedding) -> HostEmbedding:
        """Copy an embedding into host memory."""
        tensors = {}
        for name, each in embedding.tensors.items():
            tensor = cast("torch.Tensor", each).detach().cpu().contiguous()
            values = tensor.reshape(-1).view(torch.uint8).numpy().data  # numpy has no bfloat16: plain bytes
            tensors[name] = HostTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), values)
        return HostEmbedding(embedding.key, embedding.picture_hw, tensors)

    def from_host(self, embedding: HostEmbedding) -> Embedding:
        """Copy an embedding onto the device.

        Raises:
            ModelOutOfMemory: It has no room there.
        """
        tensors = {}
        with answering("fetching what it saw of the picture"):
            for name, each in embedding.tensors.items():
                tensor = torch.empty(each.shape, dtype=getattr(torch, each.dtype))
                tensor.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(each.values, dtype=np.uint8)
                tensors[name] = tensor.to(self._device)
        return Embedding(embedding.key, embedding.picture_hw, tensors)
