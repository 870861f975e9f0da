"""``sam3-backend connect``: make a project of Label Studio work with this backend, and say what it will do."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

from sam3_backend.errors import BackendError, InvalidLabelConfig, LabelStudioError
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    import argparse

    from sam3_backend.label_studio.api import LabelStudioApi

TITLE = "SAM 3"

ADVICE = {
    "reserved": "Start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false: it refuses private addresses otherwise.",
    "401 Client Error": "BASIC_AUTH_USER and BASIC_AUTH_PASS must be the same here and where the backend runs.",
    "health check failed": (
        "From Label Studio's machine that address must answer: is the backend running there, and does it listen on an "
        "address that can be reached (HOST=0.0.0.0)? --backend-url says where it is."
    ),
    "labeling configuration": "The backend's log says what it does not like about the labelling config.",
}
"""What to do, by a word of what Label Studio says when it cannot connect."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "connect",
        help="connect a project of Label Studio, and say what its controls will do",
        description=(
            "Check a project's labelling config, say in plain words what each control will do, connect this backend "
            "and switch interactive preannotations on. Needs LABEL_STUDIO_API_KEY."
        ),
    )
    parser.add_argument("--project", type=int, required=True, metavar="N", help="the project's number, as in its URL")
    parser.add_argument("--label-studio-url", metavar="URL", help="where Label Studio answers [LABEL_STUDIO_URL]")
    parser.add_argument("--backend-url", metavar="URL", help="where Label Studio reaches the backend [HOST and PORT]")
    parser.add_argument("--title", default=TITLE, help=f"what Label Studio calls the connection [{TITLE}]")
    parser.add_argument(
        "--write-config", action="store_true", help="add missing controls to the labelling config; shows the changes"
    )
    parser.add_argument("--yes", action="store_true", help="write the labelling config without asking")
    parser.add_argument("--check", action="store_true", help="say what would be done, and change nothing")
    return parser


def run(options: argparse.Namespace) -> int:
    """Check, explain, connect.

    Returns:
        1 where the labelling config cannot be used or changes were declined.

    Raises:
        LabelStudioError: Label Studio does not answer or refuses; says what to do.
        SettingsError: A setting cannot be used.
    """
    from sam3_backend.label_studio.client import LabelStudioAccess

    given = {"label_studio_url": options.label_studio_url} if options.label_studio_url else {}
    settings = Settings.from_environment(**given)
    access = LabelStudioAccess.from_settings(settings)
    try:
        return _connect(access.api(None), settings, options)
    finally:
        access.close()


def _connect(api: LabelStudioApi, settings: Settings, options: argparse.Namespace) -> int:
    path = f"/api/projects/{options.project}/"
    project = _project(api, path)
    _say(f'Project {options.project} "{project.get("title", "")}" at {api.origin}')
    if not _settle_config(api, path, str(project.get("label_config") or ""), options):
        return 1
    if options.check:
        return 0
    url = options.backend_url or _own_url(settings)
    connection = _connection(api, options.project, url)
    fields = {"project": options.project, "url": url, "title": options.title, "is_interactive": True}
    if settings.basic_auth_user is not None and settings.basic_auth_pass is not None:
        password = settings.basic_auth_pass.get_secret_value()
        fields |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": settings.basic_auth_user,
            "basic_auth_pass": password,
        }
    try:
        if connection is None:
            stored = api.send("POST", "/api/ml/", fields)
        else:
            stored = api.send("PATCH", f"/api/ml/{connection['id']}", fields)
    except LabelStudioError as fault:
        raise LabelStudioError(_with_advice(fault.message)) from fault
    _say(f"\n{'Connected' if connection is None else 'Still connected'} to {url}, model version")
    _say(f"  {stored.get('model_version')}\nInteractive preannotations are on. In a task, switch Auto-Annotation on.")
    return 0


def _project(api: LabelStudioApi, path: str) -> dict[str, Any]:
    project = api.get(path)
    if not isinstance(project, dict):
        raise LabelStudioError(f"{api.origin}{path} is no project of Label Studio.")
    return project


def _settle_config(api: LabelStudioApi, path: str, xml: str, options: argparse.Namespace) -> bool:
    """Explain the labelling config, extended where that is wanted; False where it cannot be used."""
    from sam3_backend.label_studio.missing_controls import with_missing_controls

    wanted = xml
    try:
        wanted = with_missing_controls(xml)
    except InvalidLabelConfig as fault:
        _say(f"\nThe labelling config cannot be used:\n  {fault.message}")
        return False
    if options.write_config and wanted != xml:
        if not _may_write(xml, wanted, options):
            return False
        if not options.check:
            api.send("PATCH", path, {"label_config": wanted})
            _say("The labelling config is written.")
        xml = wanted
    return _explain(xml, may_be_extended=wanted != xml)


def _explain(xml: str, *, may_be_extended: bool) -> bool:
    from sam3_backend.label_studio.explanation import explain

    try:
        explanation = explain(xml)
    except InvalidLabelConfig as fault:
        _say(f"\nThe labelling config cannot be used:\n  {fault.message}")
        _say("--write-config adds what is missing.")
        return False
    _say("\nWhat its controls will do:")
    for control, words in explanation.controls:
        _say(f"  {control}: {words}")
    for words in explanation.advice:
        _say(f"  note: {words}")
    if may_be_extended:
        _say("  note: --write-config adds the controls for clicks, boxes, texts and messages that are not there.")
    return True


def _may_write(xml: str, wanted: str, options: argparse.Namespace) -> bool:
    """Show the changes, and ask."""
    changes = difflib.unified_diff(
        xml.splitlines(), wanted.splitlines(), "labelling config now", "with missing controls", lineterm=""
    )
    _say("\n" + "\n".join(changes))
    if options.yes or options.check:
        return True
    if not sys.stdin.isatty():
        _say("Nothing is written without an answer: add --yes.")
        return False
    return input("Write this labelling config? [y/N] ").strip().lower() in {"y", "yes"}


def _connection(api: LabelStudioApi, project: int, url: str) -> dict[str, Any] | None:
    """This project's connection to the backend, if there is one."""
    known = api.get("/api/ml/", project=project)
    connections = known.get("results", []) if isinstance(known, dict) else known
    return next((each for each in connections if str(each.get("url", "")).rstrip("/") == url.rstrip("/")), None)


def _own_url(settings: Settings) -> str:
    if settings.port == 0:
        raise BackendError("PORT is 0, so nobody knows where the backend answers: give --backend-url.")
    return settings.own_url


def _with_advice(said: str) -> str:
    return next((f"{said}\n{advice}" for word, advice in ADVICE.items() if word in said), said)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
