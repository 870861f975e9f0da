"""What is written behind the caller's back: soon, in order, and not without bounds."""

from __future__ import annotations

import threading

from sam3_backend.embeddings.background import MAX_PENDING_WRITES, BackgroundWriter


def test_nobody_waits_for_a_write_and_what_there_is_no_room_for_is_not_written() -> None:
    writer, may_end, written = BackgroundWriter("writer"), threading.Event(), []

    def write(number: int) -> None:
        assert may_end.wait(10)
        written.append(number)

    taken = [writer.later(lambda number=number: write(number)) for number in range(MAX_PENDING_WRITES + 2)]
    assert taken == [True] * MAX_PENDING_WRITES + [False] * 2
    may_end.set()
    writer.flush()
    assert written == list(range(MAX_PENDING_WRITES))


def test_there_is_room_again_after_a_write_whatever_became_of_it() -> None:
    writer = BackgroundWriter("writer")
    for _ in range(MAX_PENDING_WRITES + 1):
        assert writer.later(lambda: 1 / 0)
        writer.flush()
