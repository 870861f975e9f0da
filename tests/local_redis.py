"""A real redis-server on loopback, which can be stopped, frozen and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.throwaway_authority import Authority


class Redis:
    """The server; started by making one.

    Args:
        folder: Where it may write.
        options: Words of its command line, which each start takes.
        password: The default user's.
        authority: Who vouches for it: it then speaks TLS, and nothing else.
    """

    def __init__(
        self, folder: Path, *options: str, password: str | None = None, authority: Authority | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._authority = authority
        self._options = [*(["--requirepass", password] if password else []), *options]
        if authority:
            certificate, key = authority.issue("127.0.0.1")
            self._options += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            self._options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
            self._options += ["--tls-ca-cert-file", str(authority.certificate)]
        self.url = self.url_with(f":{quote(password, safe='')}" if password else "")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        arguments += [*self._options, *options]
        self._process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.01)

    def url_with(self, credentials: str = "", **query: str) -> str:
        """Its address with ``user:password``, percent-encoded, and options beside its own."""
        own = {"ssl_ca_certs": str(self._authority.certificate)} if self._authority else {}
        before = f"{credentials}@" if credentials else ""
        scheme = "rediss" if self._authority else "redis"
        after = f"?{urlencode(own | query)}" if own | query else ""
        return f"{scheme}://{before}127.0.0.1:{self.port}/0{after}"

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
