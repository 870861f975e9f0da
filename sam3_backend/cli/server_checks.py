"""What the doctor looks at in the running server: whether it answers as fast as Label Studio wants it to.

It is asked as Label Studio asks, without what would change anything: no address of a Label Studio, no token.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sam3_backend.cli.finding import PATIENCE_S, Finding
from sam3_backend.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from sam3_backend.settings import Settings

HEALTH_LIMIT_S = 1.0
SETUP_LIMIT_S = 3.0
LIMITS = (
    f"Label Studio waits {HEALTH_LIMIT_S:.0f} s for /health, {SETUP_LIMIT_S:.0f} s for /setup, and 100 s for "
    "predictions (ML_TIMEOUT_PREDICT, in its own environment)."
)
TOO_SLOW = (
    "Label Studio takes such a backend to be down. This machine is too busy: give the server a core of its own, or "
    "lower THREADS."
)
SMALL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="object"/></BrushLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="object"/></KeyPointLabels>
</View>"""


def look_at_server(settings: Settings, project: int | None = None) -> Iterator[Finding]:
    """Time what Label Studio is impatient about, where the server runs.

    Args:
        settings: Of this server.
        project: The project whose labelling config is sent to ``/setup``; None for a small one.
    """
    import httpx

    url, password = settings.own_url, settings.basic_auth_pass
    auth = (settings.basic_auth_user or "", password.get_secret_value()) if password else None
    with httpx.Client(base_url=url, auth=auth, timeout=PATIENCE_S, trust_env=False) as server:
        began = time.perf_counter()
        try:
            server.get("/health").raise_for_status()
        except httpx.TimeoutException:
            yield Finding("time-outs", "bad", f"/health does not answer within {PATIENCE_S:.0f} s. {TOO_SLOW}")
            return
        except httpx.HTTPError:
            yield Finding("time-outs", "advice", f"{LIMITS} The server does not run, so it was not timed.")
            return
        took_s = time.perf_counter() - began
        words = f"/health took {1000 * took_s:.0f} ms. {LIMITS}"
        is_in_time = took_s < HEALTH_LIMIT_S
        yield Finding("time-outs", "good" if is_in_time else "bad", words if is_in_time else f"{words} {TOO_SLOW}")
        yield _setup(server, settings, project)


def _setup(server: httpx.Client, settings: Settings, project: int | None) -> Finding:
    """Connect a project as Label Studio does, but for what the server would remember."""
    import httpx

    config = _config_of(settings, project)
    whose = f"the labelling config of project {project}" if config and project is not None else "a small config"
    body = {"project": "", "schema": config or SMALL_CONFIG, "hostname": "", "access_token": ""}
    began = time.perf_counter()
    try:
        answer = server.post("/setup", json=body)
    except httpx.TimeoutException:
        return Finding("/setup", "bad", f"does not answer {whose} within {PATIENCE_S:.0f} s. {TOO_SLOW}")
    except httpx.HTTPError as fault:
        return Finding("/setup", "bad", f"broke off at {whose}: {fault}. The server's log says why.")
    took_s = time.perf_counter() - began
    if not answer.is_success:
        return Finding("/setup", "bad", f"refuses {whose}: {_refusal(answer, project)}")
    words = f"took {1000 * took_s:.0f} ms for {whose}."
    if took_s < SETUP_LIMIT_S:
        return Finding("/setup", "good", words)
    return Finding("/setup", "bad", f"{words} {TOO_SLOW}")


def _config_of(settings: Settings, project: int | None) -> str | None:
    """A project's labelling config; None where there is no getting at it, which is another check's finding."""
    if project is None or settings.label_studio_url is None or settings.label_studio_api_key is None:
        return None
    from sam3_backend.label_studio.client import LabelStudioAccess

    access = LabelStudioAccess.from_settings(settings)
    try:
        answer: Any = access.api(None).get(f"/api/projects/{project}/")
    except BackendError:
        return None
    finally:
        access.close()
    config = answer.get("label_config") if isinstance(answer, dict) else None
    return config if isinstance(config, str) else None


def _refusal(answer: httpx.Response, project: int | None) -> str:
    """Why, in the server's own words, and what to do."""
    try:
        said = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = f"HTTP {answer.status_code}. Is it a sam3-backend that answers there?"
    if answer.status_code == 401:
        return f"{said} BASIC_AUTH_USER and BASIC_AUTH_PASS must be here what they are where the server runs."
    if answer.status_code >= 500:
        return f"{said} The server's log says more."
    return f"{said} sam3-backend connect --project {project or 'N'} --check looks at a config."
