"""``sam3-backend doctor``: looks at everything the server needs, and says what to do about what is missing."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from sam3_backend.cli.finding import PATIENCE_S, Finding
from sam3_backend.cli.server_checks import look_at_server
from sam3_backend.cli.studio_checks import look_at_label_studio
from sam3_backend.errors import BackendError
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from sam3_backend.cli.finding import Verdict

MARKS: dict[Verdict, str] = {"good": "[green]ok[/]    ", "advice": "[yellow]note[/]  ", "bad": "[red]wrong[/] "}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "doctor",
        help="check settings, checkpoint, device, port, Label Studio and Redis",
        description="Check everything the server needs, and say what to do about what is missing. Changes nothing, "
        "but fetches a checkpoint that is named by its hub id.",
    )
    parser.add_argument("--checkpoint", metavar="C", help="hub id, directory, sam3.pt or demo [MODEL_CHECKPOINT]")
    parser.add_argument(
        "--project", type=int, metavar="N", help="look at this project's connections alone, and try its config"
    )
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
    for finding in findings(settings, options.project):
        is_well &= finding.verdict != "bad"
        console.print(MARKS[finding.verdict], end="")
        console.print(f"{finding.subject}: {finding.words}", markup=False)
    return 0 if is_well else 1


def findings(settings: Settings, project: int | None = None) -> Iterator[Finding]:
    """Look at one thing after another.

    Args:
        settings: What to look at.
        project: The project of Label Studio whose connections and labelling config are looked at; None for the newest
            ones, and a small config.
    """
    yield Finding("settings", "good", "all values can be used.")
    checks: tuple[tuple[str, Callable[[Settings], Finding | Iterator[Finding]]], ...] = (
        ("checkpoint", _checkpoint),
        ("device", _device),
        ("port", _port),
        ("time-outs", lambda of: look_at_server(of, project)),
        ("Label Studio", lambda of: look_at_label_studio(of, project)),
        ("Redis", _redis),
    )
    for subject, check in checks:
        try:
            found = check(settings)
            if isinstance(found, Finding):
                yield found
            else:
                yield from found
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

    try:
        answer = httpx.get(f"{settings.own_url}/health", timeout=1.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("model_class") == "SAM3"


def _redis(settings: Settings) -> Finding:
    from sam3_backend.embeddings.redis_room import NO_EVICTION, ask_room

    if settings.redis_url is None:
        return Finding("Redis", "advice", "REDIS_URL is not set; embeddings are kept in this server's memory alone.")
    room = ask_room(settings.redis_url.get_secret_value(), PATIENCE_S)
    if room.limit_bytes is None:
        return Finding("Redis", "advice", f"answers, but does not say everything. {room.untold}")
    if not room.limit_bytes:
        return Finding(
            "Redis", "advice", "answers, without a limit: set its maxmemory, and maxmemory-policy allkeys-lru."
        )
    words = f"answers, keeps up to {room.limit_bytes / 2**30:.1f} GiB"
    if room.policy == NO_EVICTION:
        return Finding("Redis", "advice", f"{words} and then takes no more: set its maxmemory-policy to allkeys-lru.")
    return Finding("Redis", "good", f"{words}.")
