"""The server's processes: gunicorn, with the model loaded before the port accepts anybody.

The parent binds the port and never touches torch (a fork after OpenMP or CUDA started deadlocks); each worker loads and
warms up the model on its own, and only then the port begins to listen. Until that moment connections are refused, so
nobody waits for a server that may never come up. A model that cannot be loaded ends the server with one line.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from sam3_backend.errors import BackendError, SettingsError
from sam3_backend.server import logs
from sam3_backend.server.placement import place

if TYPE_CHECKING:
    from flask import Flask
    from gunicorn.workers.base import Worker

    from sam3_backend.server.placement import Placement
    from sam3_backend.settings import Settings

logger = logging.getLogger(__name__)

RESERVED_THREADS = 8
"""Request threads that predictions never take: /health must answer within a second, /setup within three."""

GRACEFUL_STOP_S = 120
"""Longest time a stopping server works on what it was asked; Label Studio itself gives up after 100 s."""

BACKLOG = 512


def serve(settings: Settings) -> NoReturn:
    """Serve until told to stop; ends the process.

    Args:
        settings: Address, workers, and everything the application needs.

    Raises:
        SettingsError: The address cannot be listened on.
        SystemExit: 0 after a stop that was asked for, 1 where the model cannot be loaded.
    """
    logs.configure(settings.log_level)
    placement = place(settings)
    listener = _bind(settings.host, settings.port)
    _ServerArbiter(_ServerApplication(settings, placement), listener).run()
    raise SystemExit(0)


class _Listener(socket.socket):
    """A bound socket that gunicorn can name in its log."""

    def __str__(self) -> str:
        host, port = self.getsockname()[:2]
        return f"http://[{host}]:{port}" if self.family == socket.AF_INET6 else f"http://{host}:{port}"


def _bind(host: str, port: int) -> _Listener:
    """Reserve the address without accepting connections yet.

    Raises:
        SettingsError: Somebody else has it, or it is not an address of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = _Listener(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
    except OSError as fault:
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {fault.strerror}. Stop what is using it, or set HOST and PORT."
        ) from fault
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


class _ServerApplication(BaseApplication):  # type: ignore[misc]
    """What gunicorn runs, configured from our settings alone."""

    def __init__(self, settings: Settings, placement: Placement) -> None:
        self._settings = settings
        self._placement = placement
        self._slot = 0
        self._metrics_directory = tempfile.mkdtemp(prefix="sam3-metrics-") if placement.workers > 1 else None
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        configuration: dict[str, Any] = {
            "workers": self._placement.workers,
            "worker_class": "gthread",
            "threads": settings.threads + RESERVED_THREADS,
            "timeout": 0,  # a worker's heartbeat says nothing about a long prediction, and loading takes what it takes
            "graceful_timeout": GRACEFUL_STOP_S,
            "keepalive": 30,
            "control_socket_disable": True,
            "logger_class": _ServerLog,
            "loglevel": "debug" if settings.log_level == "DEBUG" else "warning",
            "pre_fork": self._give_slot,
            "post_worker_init": _listen,
            "child_exit": self._forget_worker,
            "on_exit": self._clean_up,
        }
        if self._metrics_directory:
            configuration["raw_env"] = [f"PROMETHEUS_MULTIPROC_DIR={self._metrics_directory}"]
        for name, value in configuration.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application, with a warm model; called in the worker.

        Raises:
            SystemExit: With gunicorn's code for "do not try again".
        """
        try:
            # Imported here so that the parent process, which forks, never imports torch.
            from sam3_backend.server.assembly import build_app

            device = self._placement.devices[self._slot]
            return build_app(self._settings.model_copy(update={"device": device}), workers=self._placement.workers)
        except BackendError as fault:
            logger.critical(fault.message)
            logger.debug("Cause", exc_info=fault)
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from fault

    def _give_slot(self, arbiter: Arbiter, worker: Worker) -> None:
        """Before the fork: the new worker inherits its place, and with it its device."""
        worker.slot = self._slot = self._placement.free_slot({each.slot for each in arbiter.WORKERS.values()})

    def _forget_worker(self, _arbiter: Arbiter, worker: Worker) -> None:
        if self._metrics_directory:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(worker.pid, self._metrics_directory)  # type: ignore[no-untyped-call]

    def _clean_up(self, _arbiter: Arbiter) -> None:
        if self._metrics_directory:
            shutil.rmtree(self._metrics_directory, ignore_errors=True)


def _listen(worker: Worker) -> None:
    """Open the port: this worker's model is warm."""
    for listener in worker.sockets:
        listener.listen(BACKLOG)
        logger.info("Ready on %s", listener)


class _ServerArbiter(Arbiter):  # type: ignore[misc]
    """Gunicorn's parent process over a port that is bound but closed; ends with 1 where workers cannot start."""

    def __init__(self, application: _ServerApplication, listener: _Listener) -> None:
        super().__init__(application)
        self.LISTENERS = [listener]

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """Stop; a worker that failed has said why in better words than ``reason``."""
        logger.debug("Stopping: %s", reason or "asked to")
        super().halt(None, 1 if exit_status else 0)


class _ServerLog(Logger):  # type: ignore[misc]
    """Gunicorn's messages in the server's own log."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def error(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log an error, unless it only repeats that a model could not be loaded."""
        repeats = msg.startswith("Shutting down") or args[-1:] == (Arbiter.APP_LOAD_ERROR,)
        (super().debug if repeats else super().error)(msg, *args, **kwargs)
