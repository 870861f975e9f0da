"""``sam3-backend doctor``: looks at everything the server needs, and says what to do about what is missing."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sam3_backend.errors import BackendError
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import httpx

Verdict = Literal["good", "advice", "bad"]
MARKS: dict[Verdict, str] = {"good": "[green]ok[/]    ", "advice": "[yellow]note[/]  ", "bad": "[red]wrong[/] "}
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at.
        verdict: ``good``, ``advice`` (works, but a person should know) or ``bad``.
        words: What was found and, if need be, what to do.
    """

    subject: str
    verdict: Verdict
    words: str


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "doctor",
        help="check settings, checkpoint, device, port, Label Studio and Redis",
        description="Check everything the server needs, and say what to do about what is missing. Changes nothing, "
        "but fetches a checkpoint that is named by its hub id.",
    )
    parser.add_argument("--checkpoint", metavar="C", help="hub id, directory, sam3.pt or demo [MODEL_CHECKPOINT]")
    return parser


def run(options: argparse.Namespace) -> int:
    """Check, and tell.

    Returns:
        1 where something is wrong.

    Raises:
        SettingsError: A setting cannot be used; all that cannot are named.
    """
    from rich.console import Console

    given = {"model_checkpoint": options.checkpoint} if options.checkpoint else {}
    settings = Settings.from_environment(**given)
    console = Console(highlight=False, soft_wrap=True)
    is_well = True
    for finding in findings(settings):
        is_well &= finding.verdict != "bad"
        console.print(MARKS[finding.verdict], end="")
        console.print(f"{finding.subject}: {finding.words}", markup=False)
    return 0 if is_well else 1


def findings(settings: Settings) -> Iterator[Finding]:
    """Look at one thing after another."""
    yield Finding("settings", "good", "all values can be used.")
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        ("checkpoint", _checkpoint),
        ("device", _device),
        ("port", _port),
        ("Label Studio", _label_studio),
        ("Redis", _redis),
    )
    for subject, check in checks:
        try:
            yield check(settings)
        except BackendError as fault:
            yield Finding(subject, "bad", fault.message)


def _checkpoint(settings: Settings) -> Finding:
    from sam3_backend.model.checkpoint import open_checkpoint

    name, token = settings.model_checkpoint, settings.hf_token
    opened = open_checkpoint(
        name, hf_token=token.get_secret_value() if token else None, offline=settings.hf_hub_offline
    )
    if name != "demo" and not Path(name).expanduser().exists():
        return Finding("checkpoint", "good", f"{opened.name} from the hub, {len(opened.tensors)} tensors.")
    words = _describe(name)
    if name == "demo":
        return Finding("checkpoint", "advice", f"{words} It only knows drawn shapes; set MODEL_CHECKPOINT for SAM 3.")
    return Finding("checkpoint", "good", words)


def _describe(name: str) -> str:
    """What a checkpoint on this machine is, in a sentence or two."""
    from sam3_backend.model.checkpoint_info import describe_checkpoint

    info = describe_checkpoint(name)
    files = "; ".join(f"{each.path.name} {each.size_bytes:,} bytes, SHA-256 {each.sha256}" for each in info.files)
    return (
        f"{info.name}, a {info.kind}, {info.parameters / 1e6:,.1f} M parameters in {', '.join(info.dtypes)}; answers "
        f"{' and '.join(info.heads)}; {info.layers} layers of {info.width}, {info.text_tower} text tower, "
        f"{info.input_size_px} px input. {files}{' (as Meta published it)' if info.is_published else ''}."
    )


def _device(settings: Settings) -> Finding:
    import torch

    from sam3_backend.model.device import resolve_device

    device = resolve_device(settings.device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Finding("device", "good", f"{device}, {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free.")
    words = f"{device}, {torch.get_num_threads()} threads."
    if device.type == "cpu" and settings.model_checkpoint != "demo":
        return Finding("device", "advice", f"{words} SAM 3 takes a minute or so for each new picture on a CPU.")
    return Finding("device", "good", words)


def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as fault:
        if _is_ours(settings):
            return Finding("port", "good", f"a sam3-backend answers on {where}.")
        return Finding("port", "bad", f"{where} cannot be listened on: {fault.strerror}. Set HOST and PORT.")
    if ipaddress.ip_address(address[0]).is_loopback:
        return Finding("port", "good", f"{where} is free. Only this machine can reach it; HOST=0.0.0.0 opens it.")
    if settings.basic_auth_user is None:
        return Finding("port", "advice", f"{where} is free, and open to all. Set BASIC_AUTH_USER and BASIC_AUTH_PASS.")
    return Finding("port", "good", f"{where} is free.")


def _is_ours(settings: Settings) -> bool:
    import httpx

    host = "127.0.0.1" if settings.host in {"", "0.0.0.0", "::"} else settings.host  # noqa: S104
    try:
        answer = httpx.get(f"http://{host}:{settings.port}/health", timeout=1.0).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("model_class") == "SAM3"


def _label_studio(settings: Settings) -> Finding:
    import httpx

    url = settings.label_studio_url
    if url is None:
        return Finding(
            "Label Studio",
            "advice",
            "LABEL_STUDIO_URL is not set; the address and token that each project sends when it connects are used.",
        )
    try:
        version = httpx.get(f"{url}/api/version", timeout=PATIENCE_S, follow_redirects=True)
        version.raise_for_status()
        release = version.json().get("release", "of unknown release")
    except (httpx.HTTPError, ValueError, AttributeError) as fault:
        raise BackendError(f"{url} does not answer as Label Studio does: {fault}. Set LABEL_STUDIO_URL.") from fault
    hint = ""
    if _is_private(urlsplit(url).hostname or ""):
        hint = (
            " It refuses models on private addresses unless it was started with USE_DEFAULT_BANNED_SUBNETS=false: "
            "needed if it says 'reserved network address'."
        )
    return Finding("Label Studio", "good", f"{release} at {url}, {_login(settings, url)}.{hint}")


def _login(settings: Settings, url: str) -> str:
    """Who the API key belongs to.

    Raises:
        BackendError: Label Studio does not accept the key.
    """
    import httpx

    from sam3_backend.label_studio.client import LabelStudioAccess

    if settings.label_studio_api_key is None:
        return "no LABEL_STUDIO_API_KEY: each project's own token is used"
    authorization = LabelStudioAccess.from_settings(settings).locate("/data/", project=None, task_id=None).authorization
    header = authorization() if authorization else ""
    answer: httpx.Response = httpx.get(
        f"{url}/api/current-user/whoami", headers={"Authorization": header}, timeout=PATIENCE_S, follow_redirects=False
    )
    if answer.status_code != 200:
        advice = authorization.advice if authorization else ""
        raise BackendError(f"{url} does not accept LABEL_STUDIO_API_KEY (HTTP {answer.status_code}). {advice}")
    return f"logged in as {answer.json().get('email', 'somebody')}"


def _is_private(host: str) -> bool:
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(not ipaddress.ip_address(str(address).split("%")[0]).is_global for address in addresses)


def _redis(settings: Settings) -> Finding:
    import redis

    if settings.redis_url is None:
        return Finding("Redis", "advice", "REDIS_URL is not set; embeddings are kept in this server's memory alone.")
    connection = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_connect_timeout=PATIENCE_S)
    try:
        memory = connection.info("memory")
    except redis.RedisError as fault:
        raise BackendError(f"Redis does not answer: {fault}. The server goes on without it, more slowly.") from fault
    if not memory.get("maxmemory"):
        return Finding(
            "Redis", "advice", "answers, without a limit: set its maxmemory, and maxmemory-policy allkeys-lru."
        )
    return Finding("Redis", "good", f"answers, keeps up to {memory['maxmemory'] / 2**30:.1f} GiB.")
