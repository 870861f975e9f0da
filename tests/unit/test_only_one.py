from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from sam3_backend.bulk.only_one import hold, hold_run
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path


def test_one_run_at_a_time_stores_in_a_project_whatever_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with hold_run("http://ls/projects/1", "v1"):
        with pytest.raises(BackendError, match=r"in http://ls/projects/1\. Wait for it, or stop it"):
            hold_run("http://ls/projects/1", "v1")
        hold_run("http://ls/projects/1", "v2").close()
        hold_run("http://ls/projects/2", "v1").close()
    hold_run("http://ls/projects/1", "v1").close()


def test_a_file_that_was_made_read_only_by_somebody_else_can_be_held(tmp_path: Path):
    (tmp_path / "lock").touch(0o444)
    hold(tmp_path / "lock", "no").close()


def test_where_no_file_can_be_made_it_says_so(tmp_path: Path):
    with pytest.raises(BackendError, match="nowhere/lock cannot be written: No such file"):
        hold(tmp_path / "nowhere" / "lock", "no")
