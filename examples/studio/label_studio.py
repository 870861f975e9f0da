"""Start, drive and stop a real Label Studio.

Knows Label Studio's command line and HTTP API. Does not know the backend it connects, nor what its pages look like.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The server listens on loopback alone, so a login that everybody can read here guards nothing.
USERNAME = "annotator@example.com"
PASSWORD = "sample-studio"  # noqa: S105
TOKEN = "5a" * 20

# Without the first, Label Studio refuses backends on loopback; without the others, it calls home at every start.
ENVIRONMENT = {
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
INSTALLED_EXECUTABLE = Path(__file__).parents[2] / ".studio" / "venv" / "bin" / "label-studio"


class StudioError(RuntimeError):
    """Label Studio did not start, or refused what was asked of it."""


class Studio:
    """A running Label Studio and its only user.

    Attributes:
        url: Where its pages and its API answer, without a trailing slash.
        username: The user's login.
        password: The user's password.
        token: The user's legacy API token.
    """

    username = USERNAME
    password = PASSWORD
    token = TOKEN

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log
        self._api = httpx.Client(base_url=url, headers={"Authorization": f"Token {TOKEN}"}, timeout=120)

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        executable: Path = INSTALLED_EXECUTABLE,
        port: int | None = None,
        template: Path | None = None,
        ready_within_s: float = 300,
    ) -> Studio:
        """Start Label Studio and wait until it answers.

        Args:
            data_dir: Where it keeps its database, uploads and log; created where missing, left behind by ``stop``.
            executable: The ``label-studio`` command.
            port: Port to listen on; a free one by default.
            template: An empty, migrated database. Copied where ``data_dir`` has none yet, written after the first
                start: creating the tables is most of what a first start waits for.
            ready_within_s: How long to wait for the first answer.

        Raises:
            StudioError: The command is missing, or the server does not answer in time; the message quotes its log.
        """
        if not executable.exists():
            raise StudioError(f"There is no {executable}. `make studio` and `make test` install it.")
        data_dir.mkdir(parents=True, exist_ok=True)
        database = data_dir / "label_studio.sqlite3"
        if template and template.exists() and not database.exists():
            _copy_database(template, database)
        port, log = port or free_port(), data_dir / "label-studio.log"
        command = [str(executable), "start", "--no-browser", "--data-dir", str(data_dir), "--enable-legacy-api-token"]
        command += ["--internal-host", "127.0.0.1", "--port", str(port)]
        command += ["--username", USERNAME, "--password", PASSWORD, "--user-token", TOKEN]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                command,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        studio = cls(process, f"http://127.0.0.1:{port}", log)
        try:
            studio._wait_for_answer(ready_within_s)
        except BaseException:
            studio.stop()
            raise
        if template and not template.exists():
            _copy_database(database, template)
        return studio

    def stop(self) -> None:
        """End the server and everything it started."""
        self._api.close()
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Return when the server has ended by itself."""
        self._process.wait()

    def call(self, method: str, path: str, **request: Any) -> Any:
        """One API call as the user.

        Args:
            method: HTTP method.
            path: Path on Label Studio, e.g. ``/api/projects/``.
            **request: What ``httpx.Client.request`` takes: ``json``, ``params``, ``files`` ...

        Returns:
            The decoded JSON, or None where the answer has no body.

        Raises:
            StudioError: Any answer but 2xx.
        """
        answer = self._api.request(method, path, **request)
        if not answer.is_success:
            raise StudioError(f"{method} {path} answered {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def personal_access_token(self) -> str:
        """A new personal access token of the user: a JWT refresh token."""
        return str(self.call("POST", "/api/token/", json={})["token"])

    def create_project(self, title: str, label_config: str) -> Project:
        """A new project.

        Args:
            title: What the page shows.
            label_config: The labelling config, XML.
        """
        body = {"title": title, "label_config": label_config, "show_collab_predictions": True}
        return Project(self, int(self.call("POST", "/api/projects/", json=body)["id"]))

    def projects(self) -> dict[str, Project]:
        """Every project by its title."""
        found = self.call("GET", "/api/projects/", params={"page_size": 1000})["results"]
        return {each["title"]: Project(self, int(each["id"])) for each in found}

    def _wait_for_answer(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if self._api.get("/api/projects/", timeout=10).is_success:
                    return
            time.sleep(0.25)
        last_lines = self._log.read_text(errors="replace")[-3000:]
        raise StudioError(f"Label Studio did not answer within {within_s:.0f} s. Its log ends:\n{last_lines}")


class Project:
    """One project of a running Label Studio.

    Attributes:
        id: Its number.
        studio: The server it lives on.
    """

    def __init__(self, studio: Studio, project_id: int) -> None:
        self.id = project_id
        self.studio = studio

    @property
    def url(self) -> str:
        """Its Data Manager."""
        return f"{self.studio.url}/projects/{self.id}/data"

    def labelling_url(self, task_id: int) -> str:
        """The page on which a person labels one task."""
        return f"{self.url}?task={task_id}"

    def upload(self, pictures: Mapping[str, bytes]) -> list[int]:
        """Upload picture files.

        Args:
            pictures: File name -> the file's bytes.

        Returns:
            The new tasks' ids, in the order given.
        """
        files = {name: (name, data) for name, data in pictures.items()}
        path, options = f"/api/projects/{self.id}/import", {"return_task_ids": "true"}
        return [int(each) for each in self.studio.call("POST", path, files=files, params=options)["task_ids"]]

    def add_tasks(self, data: Sequence[Mapping[str, str]]) -> list[int]:
        """Create tasks from their data, for pictures that live elsewhere.

        Args:
            data: One task's data each, e.g. ``{"image": "https://example.com/cat.jpg"}``.

        Returns:
            The new tasks' ids, in the order given.
        """
        path, options = f"/api/projects/{self.id}/import", {"return_task_ids": "true"}
        body = [{"data": dict(each)} for each in data]
        return [int(each) for each in self.studio.call("POST", path, json=body, params=options)["task_ids"]]

    def connect(self, backend_url: str, *, title: str = "SAM 3", **fields: Any) -> dict[str, Any]:
        """Connect an ML backend, for predictions and for interactive labelling.

        Args:
            backend_url: As Label Studio reaches it.
            title: What the page shows.
            **fields: Further fields of Label Studio's form, e.g. ``auth_method``, ``basic_auth_user``.

        Returns:
            The connection as Label Studio stores it.

        Raises:
            StudioError: The backend does not answer, or answers with an error.
        """
        body = {"project": self.id, "url": backend_url, "title": title, "is_interactive": True, **fields}
        connection: dict[str, Any] = self.studio.call("POST", "/api/ml/", json=body)
        return connection

    def retrieve_predictions(self, task_ids: Sequence[int] | None = None) -> None:
        """What the Data Manager's action of that name does; returns when the backend has answered.

        Args:
            task_ids: The selected tasks; all of them by default.
        """
        selected = {"all": True} if task_ids is None else {"all": False, "included": list(task_ids)}
        options = {"id": "retrieve_tasks_predictions", "project": self.id}
        self.studio.call("POST", "/api/dm/actions", params=options, json={"selectedItems": selected})

    def predictions(self, task_id: int) -> list[dict[str, Any]]:
        """A task's stored predictions, as Label Studio exports them."""
        found: list[dict[str, Any]] = self.studio.call("GET", "/api/predictions/", params={"task": task_id})
        return found

    def annotations(self, task_id: int) -> list[dict[str, Any]]:
        """A task's submitted annotations, as Label Studio exports them."""
        found: list[dict[str, Any]] = self.studio.call("GET", f"/api/tasks/{task_id}/annotations/")
        return found


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _copy_database(source: Path, destination: Path) -> None:
    """SQLite's own backup: consistent even while a server writes to ``source``."""
    unfinished = destination.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(unfinished)) as new:
        old.backup(new)
    unfinished.replace(destination)
