"""One worker on each GPU, or as many as are asked for."""

from __future__ import annotations

import pytest

from sam3_backend.errors import SettingsError
from sam3_backend.server import placement
from sam3_backend.server.placement import place
from sam3_backend.settings import Settings


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(placement, "count_gpus", lambda: request.param)


@pytest.mark.parametrize(
    ("gpus", "workers", "device", "devices"),
    [
        (4, "auto", "auto", ("cuda:0", "cuda:1", "cuda:2", "cuda:3")),
        (0, "auto", "auto", ("auto",)),
        (2, 3, "cuda", ("cuda:0", "cuda:1", "cuda:0")),
        (4, 1, "auto", ("auto",)),
        (4, 2, "cuda:3", ("cuda:3", "cuda:3")),
        (4, "auto", "cpu", ("cpu",)),
        (4, 2, "cpu", ("cpu", "cpu")),
    ],
    indirect=["gpus"],
)
def test_workers_are_spread_over_the_gpus(gpus: None, workers: int, device: str, devices: tuple[str, ...]) -> None:
    assert place(Settings(workers=workers, device=device)).devices == devices


@pytest.mark.parametrize("gpus", [3], indirect=True)
def test_a_worker_that_replaces_another_one_takes_its_device(gpus: None) -> None:
    assert place(Settings(workers="auto")).free_slot({0, 2}) == 1


def test_a_torch_that_cannot_be_asked_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "COUNT_GPUS", "raise SystemExit('no driver')")
    with pytest.raises(SettingsError, match="set WORKERS to a number"):
        placement.count_gpus()
