from __future__ import annotations

import io
import re

from rich.console import Console

from sam3_backend.cli.progress import BulkProgress


def shown(*, is_terminal: bool, line_every_s: float = 0.0) -> str:
    """What is seen of a run of eight tasks, of which three are written and three fail."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=160, legacy_windows=False)
    with BulkProgress(console, line_every_s) as progress:
        progress.listing(8)
        progress.working(8)
        progress.written(1)
        progress.written(2)
        for code in ("image_unreachable", "image_undecodable", "image_unreachable"):
            progress.failed(code)
    return file.getvalue()


def test_a_terminal_has_a_bar_with_rate_time_left_and_failures_by_kind():
    last = [line for line in shown(is_terminal=True).splitlines() if "predictions" in line][-1]
    assert "6/8" in last
    assert re.search(r"\d+\.\d\d/s", last)
    assert re.search(r"left .*\d+:\d\d:\d\d", last)
    assert "2 image_unreachable, 1 image_undecodable" in last


def test_a_log_has_lines_with_rate_time_left_and_failures_by_kind():
    first, *_, last = shown(is_terminal=False).splitlines()
    assert first == "8 tasks read"
    assert re.fullmatch(
        r"6 of 8, \d+\.\d\d/s, time left 0:00:0\d, failed: 2 image_unreachable, 1 image_undecodable", last
    )


def test_a_log_is_not_filled():
    assert shown(is_terminal=False, line_every_s=1000.0) == ""
