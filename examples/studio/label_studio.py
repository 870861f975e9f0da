"""Start, drive and stop a real Label Studio.

Knows Label Studio's command line and HTTP API. Does not know the backend it connects, nor what its pages look like.
"""

from __future__ import annotations

import contextlib
import sqlite3
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from examples.studio.processes import Server, ServerError, free_port

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


class StudioError(ServerError):
    """Label Studio refused what was asked of it."""


class Studio(Server):
    """A running Label Studio and its only user.

    Attributes:
        username: The user's login.
        password: The user's password.
        token: The user's legacy API token.
        local_files: The folder below which local storages may lie.
    """

    local_files: Path

    username = USERNAME
    password = PASSWORD
    token = TOKEN

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        executable: Path = INSTALLED_EXECUTABLE,
        port: int | None = None,
        template: Path | None = None,
        ready_within_s: float = 300,
        env: Mapping[str, str] | None = None,
    ) -> Studio:
        """Start Label Studio and wait until it answers.

        Args:
            data_dir: Where it keeps its database, uploads and log; created where missing, left behind by ``stop``.
            executable: The ``label-studio`` command.
            port: Port to listen on; a free one by default.
            template: An empty, migrated database. Copied where ``data_dir`` has none yet, written after the first
                start: creating the tables is most of what a first start waits for.
            ready_within_s: How long to wait for the first answer.
            env: Further variables of its environment.

        Raises:
            ServerError: The command is missing, or the server does not answer in time; the message quotes its log.
        """
        if not executable.exists():
            raise ServerError(f"There is no {executable}. `make studio` and `make test` install it.")
        data_dir.mkdir(parents=True, exist_ok=True)
        database, port = data_dir / "label_studio.sqlite3", port or free_port()
        if template and template.exists() and not database.exists():
            _copy_database(template, database)
        command = [str(executable), "start", "--no-browser", "--data-dir", str(data_dir), "--enable-legacy-api-token"]
        command += ["--internal-host", "127.0.0.1", "--port", str(port)]
        command += ["--username", USERNAME, "--password", PASSWORD, "--user-token", TOKEN]
        log = data_dir / "label-studio.log"
        local_files = data_dir.resolve() / "local-files"
        local_files.mkdir(exist_ok=True)
        files = {"LOCAL_FILES_SERVING_ENABLED": "true", "LOCAL_FILES_DOCUMENT_ROOT": str(local_files)}
        everything = {**ENVIRONMENT, **files, **(env or {})}
        studio = cls("Label Studio", command, url=f"http://127.0.0.1:{port}", log=log, env=everything)
        studio.local_files = local_files
        studio.wait_until_it_answers("/health", ready_within_s)
        if template and not template.exists():
            _copy_database(database, template)
        return studio

    @cached_property
    def personal_access_token(self) -> str:
        """The user's personal access token, a JWT refresh token; Label Studio shows it once and allows only one."""
        return str(self.call("POST", "/api/token/", json={})["token"])

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
        headers = {"Authorization": f"Token {self.token}"}
        answer = httpx.request(method, self.url + path, headers=headers, timeout=120, **request)
        if not answer.is_success:
            raise StudioError(f"{method} {path} answered {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def create_project(self, title: str, label_config: str, *, predict_on_open: bool = True) -> Project:
        """A new project.

        Args:
            title: What the page shows.
            label_config: The labelling config, XML.
            predict_on_open: Whether a task without predictions gets them when somebody opens it, and new annotations
                begin with them.
        """
        body = {"title": title, "label_config": label_config, "show_collab_predictions": predict_on_open}
        return Project(self, int(self.call("POST", "/api/projects/", json=body)["id"]))

    def projects(self) -> dict[str, Project]:
        """Every project by its title."""
        found = self.call("GET", "/api/projects/", params={"page_size": 1000})["results"]
        return {each["title"]: Project(self, int(each["id"])) for each in found}


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

    def backend_urls(self) -> list[str]:
        """Addresses of the backends that are connected."""
        return [each["url"] for each in self.studio.call("GET", "/api/ml/", params={"project": self.id})]

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


def _copy_database(source: Path, destination: Path) -> None:
    """SQLite's own backup: consistent even while a server writes to ``source``."""
    unfinished = destination.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(unfinished)) as new:
        old.backup(new)
    unfinished.replace(destination)
