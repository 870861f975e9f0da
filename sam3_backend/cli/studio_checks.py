"""What the doctor looks at in Label Studio: its address, the token, and whether it reaches this backend."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sam3_backend.cli.finding import PATIENCE_S, Finding
from sam3_backend.errors import BackendError, LabelStudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend.label_studio.api import LabelStudioApi
    from sam3_backend.settings import Settings

MOST_PROJECTS = 20
"""Label Studio asks a project's backends anew for each look, and waits seconds for those that are gone."""

UNREACHED = (
    "Is the backend running, and is this its address for Label Studio's machine (HOST=0.0.0.0, in containers the "
    "service's name)? A private address needs USE_DEFAULT_BANNED_SUBNETS=false in Label Studio's environment, basic "
    "auth the same user and password there and here."
)


def look_at_label_studio(settings: Settings, project: int | None = None) -> Iterator[Finding]:
    """Look from here to there, then from there to here.

    Args:
        settings: Of this server.
        project: The project whose connections are looked at; None for the newest ones.
    """
    url = settings.label_studio_url
    if url is None:
        yield Finding(
            "Label Studio",
            "advice",
            "LABEL_STUDIO_URL is not set; the address and token that each project sends when it connects are used. "
            "Set it, and LABEL_STUDIO_API_KEY, to have the way to Label Studio and back looked at.",
        )
        return
    yield _address(url)
    if settings.label_studio_api_key is None:
        yield Finding("token", "advice", "LABEL_STUDIO_API_KEY is not set: each project's own token is used.")
        return
    from sam3_backend.label_studio.client import LabelStudioAccess
    from sam3_backend.label_studio.tokens import kind_of

    access = LabelStudioAccess.from_settings(settings)
    try:
        api = access.api(None)
        yield _token(api, kind_of(settings.label_studio_api_key.get_secret_value()))
        yield from _connections(api, project)
    finally:
        access.close()


def _address(url: str) -> Finding:
    import httpx

    try:
        version = httpx.get(f"{url}/api/version", timeout=PATIENCE_S, follow_redirects=True)
        version.raise_for_status()
        release = version.json().get("release", "of unknown release")
    except (httpx.HTTPError, ValueError, AttributeError) as fault:
        raise BackendError(f"{url} does not answer as Label Studio does: {fault}. Set LABEL_STUDIO_URL.") from fault
    words = f"{release} at {url}."
    if _is_private(urlsplit(url).hostname or ""):
        words += (
            " It refuses models on private addresses unless it was started with USE_DEFAULT_BANNED_SUBNETS=false: "
            "needed if it says 'reserved network address'."
        )
    return Finding("Label Studio", "good", words)


def _token(api: LabelStudioApi, kind: str) -> Finding:
    user = api.get("/api/current-user/whoami")
    who = user.get("email", "somebody") if isinstance(user, dict) else "somebody"
    return Finding("token", "good", f"the {kind} of {who} is accepted.")


def _connections(api: LabelStudioApi, project: int | None) -> Iterator[Finding]:
    """Whether Label Studio reaches the models that its projects are connected to: it asks them when it is asked."""
    if project is not None:
        projects = [api.get(f"/api/projects/{project}/")]
    else:
        projects = _listed(api.get("/api/projects/", page_size=MOST_PROJECTS, ordering="-created_at"))
    found = 0
    for each in projects:
        for connection in _listed(api.get("/api/ml/", project=each["id"])):
            found += 1
            yield _connection(each, connection)
    if not found:
        where = f"Project {project}" if project is not None else "No project"
        missing = "is not connected to a model" if project is not None else "is connected to a model"
        yield Finding("connections", "advice", f"{where} {missing}: sam3-backend connect --project N does it.")


def _connection(project: dict[str, Any], connection: dict[str, Any]) -> Finding:
    subject = f'project {project["id"]} "{project.get("title", "")}"'
    url, state = connection.get("url"), connection.get("state")
    if state == "CO":
        if connection.get("is_interactive"):
            return Finding(subject, "good", f"Label Studio reaches {url}.")
        return Finding(subject, "advice", f"Label Studio reaches {url}, but interactive preannotations are off.")
    if state == "DI":
        return Finding(subject, "bad", f"Label Studio does not reach {url}. {UNREACHED}")
    said = " ".join(str(connection.get("error_message") or "it does not say why").split())[:300]
    return Finding(
        subject,
        "bad",
        f"{url} refuses the project: {said} sam3-backend connect --project {project['id']} --check says why.",
    )


def _listed(answer: Any) -> list[dict[str, Any]]:
    """A list, whether Label Studio pages it or not."""
    found = answer.get("results") if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise LabelStudioError("Label Studio's answer is not a list. Is LABEL_STUDIO_URL the address of one?")
    return found


def _is_private(host: str) -> bool:
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(not ipaddress.ip_address(str(address).split("%")[0]).is_global for address in addresses)
