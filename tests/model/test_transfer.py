"""Embeddings survive the way to host memory, into bytes, and back."""

from __future__ import annotations

import pytest
import torch

from sam3_backend.embeddings import codec
from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.errors import ModelOutOfMemory
from sam3_backend.model.transfer import DeviceTransfer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_value_survives_the_way_through_bytes(dtype: torch.dtype) -> None:
    tensors = {"vit": torch.randn(1, 6, 4).to(dtype), "clicks": torch.randn(1, 2, 3, 3).to(dtype).transpose(2, 3)}
    embedding = Embedding(EmbeddingKey("picture", "model"), (40, 50), tensors)
    transfer = DeviceTransfer("cpu")
    value = codec.to_bytes(transfer.to_host(embedding))
    back = transfer.from_host(codec.from_bytes(value, embedding.key))
    assert back.picture_hw == embedding.picture_hw
    assert back.nbytes == embedding.nbytes
    for name, tensor in tensors.items():
        assert torch.equal(back.tensors[name], tensor)  # type: ignore[arg-type]
        assert back.tensors[name].dtype == dtype  # type: ignore[attr-defined]


def test_a_device_without_room_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    embedding = Embedding(EmbeddingKey("picture", "model"), (40, 50), {"vit": torch.randn(1, 6, 4)})
    transfer = DeviceTransfer("cpu")
    stored = transfer.to_host(embedding)
    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(ModelOutOfMemory, match="while fetching what it saw of the picture"):
        transfer.from_host(stored)
