"""``make studio``: a real Label Studio with a sample project, connected to the backend.

Keeps its data in ``.studio/data``, so that work done there is still there the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path

from rich.console import Console

from examples.studio.backend import start_backend
from examples.studio.label_studio import Project, Studio
from examples.studio.pictures import sample_drawings
from examples.studio.processes import ServerError, answers, free_port

ROOT = Path(__file__).parents[2]
LABEL_CONFIG = ROOT / "examples" / "recommended" / "label_config.xml"
TITLE = "SAM 3 sample"

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Start what is not running, say where to look, and wait for Ctrl-C.

    Returns:
        0 after Ctrl-C, 1 where something could not be started.
    """
    arguments = _parser().parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs inherit that SIGINT is ignored
        signal.signal(ending, signal.default_int_handler)
    with contextlib.ExitStack() as running, contextlib.suppress(KeyboardInterrupt):
        try:
            _start_backend_unless_running(arguments.backend, arguments.data, running)
            studio = _start_studio(arguments.port, arguments.data, running)
            project = sample_project(studio, arguments.backend)
        except ServerError as fault:
            console.print(str(fault), markup=False, style="red")
            return 1
        console.print(_invitation(studio, project))
        studio.wait()
        console.print(f"Label Studio ended by itself; see {studio.log}.", markup=False)
        return 1
    console.print("Stopped. Your work is kept for the next time.")
    return 0


def sample_project(studio: Studio, backend_url: str) -> Project:
    """The sample project, created unless it is there, connected to the backend unless it is.

    Raises:
        ServerError: Label Studio cannot reach the backend.
    """
    project = studio.projects().get(TITLE)
    if project is None:
        project = studio.create_project(TITLE, LABEL_CONFIG.read_text())
        project.upload({name: drawing.file(name) for name, drawing in sample_drawings().items()})
    if backend_url not in project.backend_urls():
        project.connect(backend_url)
    return project


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make studio", description="Label Studio with a connected sample project.")
    parser.add_argument("--port", type=int, default=8080, help="Label Studio's port (default 8080)")
    parser.add_argument("--backend", default="http://127.0.0.1:9090", help="where the backend answers")
    parser.add_argument("--data", type=Path, default=ROOT / ".studio" / "data", help="where the data is kept")
    return parser


def _start_backend_unless_running(url: str, data: Path, running: contextlib.ExitStack) -> None:
    if answers(f"{url}/health"):
        console.print(f"Using the backend that answers on {url}.")
        return
    port = int(url.rpartition(":")[2])
    console.print(f"No backend answers on {url}; starting one, as `make serve` does.")
    data.mkdir(parents=True, exist_ok=True)
    running.enter_context(start_backend(data / "backend.log", port=port, ready_within_s=3600))


def _start_studio(port: int, data: Path, running: contextlib.ExitStack) -> Studio:
    if answers(f"http://127.0.0.1:{port}/health"):
        console.print(f"Port {port} is taken; looking for another.")
        port = free_port()
    console.print("Starting Label Studio; the first time this takes about a minute.")
    return running.enter_context(Studio.start(data, port=port, template=ROOT / ".studio" / "empty.sqlite3"))


def _invitation(studio: Studio, project: Project) -> str:
    return f"""
Open      [bold]{project.url}[/]
Login     {studio.username}
Password  {studio.password}

Open a task, switch on Auto-Annotation below the picture, pick the smart tool
and a label, and click a shape. Or type "red circle" above the picture.
Ctrl-C stops everything."""


if __name__ == "__main__":
    sys.exit(main())
