"""For all tests: threads that wait for each other sleep, here and in every server that a test starts."""

from __future__ import annotations

from sam3_backend.settings import let_waiting_threads_sleep

let_waiting_threads_sleep()
