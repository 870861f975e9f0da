"""How much a device is given at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from sam3_backend.composition import compose
from sam3_backend.model.pace import Pace
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU, SMALL, LARGE = torch.device("cpu"), 10**6, 10**9


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_a_small_network_on_a_cpu_clicks_in_one_thread_and_gives_the_others_back() -> None:
    def click() -> None:
        with Pace(CPU, SMALL).clicking():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        click()
    assert torch.get_num_threads() == 3


def test_threads_come_back_when_the_last_of_several_clicks_is_answered_whoever_began() -> None:
    pace = Pace(CPU, SMALL)
    one, other = pace.clicking(), pace.clicking()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    other.__exit__(None, None, None)
    assert torch.get_num_threads() == 3


def test_a_large_network_clicks_with_all_threads() -> None:
    with Pace(CPU, LARGE).clicking():
        assert torch.get_num_threads() == 3


def test_a_small_network_makes_a_call_on_each_processor_where_nobody_waits() -> None:
    assert Pace(CPU, SMALL).spread() == 3
    assert torch.get_num_threads() == 1


def test_a_large_network_makes_one_call_at_a_time_with_all_threads() -> None:
    assert Pace(CPU, LARGE).spread() == 1
    assert torch.get_num_threads() == 3


def test_a_cpu_is_not_asked_how_many_pictures_it_likes() -> None:
    pace = Pace(CPU, SMALL)
    pace.try_pictures(lambda _: pytest.fail("looked"))
    assert pace.pictures_at_once == 1


def test_only_who_may_be_clicked_gets_click_features() -> None:
    settings = Settings(_env_file=None)
    assert compose(settings).predictor.has_click_decoder
    assert not compose(settings, is_awaited=False).predictor.has_click_decoder
    assert torch.get_num_threads() == 1
