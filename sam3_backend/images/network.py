"""HTTP to addresses that may be reached, within a deadline.

The address that was checked is the address that is connected to: a name is resolved once, by us, and the socket is
opened to the result, while the host's name stays in the ``Host`` header and in the TLS handshake. There is no cookie
jar, no redirect is followed, no proxy is used, and nothing is logged: a presigned address is a secret.
Does not know what is downloaded.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import ssl
import time
import weakref
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import certifi
import httpcore
import httpx

from sam3_backend.errors import ImageForbidden, ImageUnreachable
from sam3_backend.images.addresses import UnknownHost, may_reach, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class Deadline:
    """The moment at which an exchange must be over.

    Attributes:
        at_s: That moment on the monotonic clock.
    """

    at_s: float

    @classmethod
    def within(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at_s

    def clip(self, timeout_s: float | None) -> float:
        """The given wait, cut to what is left, in seconds.

        Raises:
            httpcore.ReadTimeout: Nothing is left.
        """
        left_s = self.at_s - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return left_s if timeout_s is None else min(timeout_s, left_s)


# The deadline of the exchange this thread is in. httpcore gives each read the same wait anew, so that a host which
# sends one byte at a time would hold it for ever; the sockets below look here.
_deadline: ContextVar[Deadline] = ContextVar("deadline")


class HttpTransport:
    """Pooled HTTP connections; safe to share between threads."""

    def __init__(self, *, allow_private_hosts: bool) -> None:
        # httpcore's debug log shows response headers: cookies, and redirects to presigned addresses.
        logging.getLogger("httpcore").setLevel(logging.INFO)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_certificates(),
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=30.0,
            network_backend=_GuardedNetwork(allow_private_hosts=allow_private_hosts),
        )
        self._close = weakref.finalize(self, self._pool.close)  # for whoever forgets to

    @contextlib.contextmanager
    def exchange(self, request: httpx.Request, *, timeout_s: float, deadline: Deadline) -> Iterator[httpx.Response]:
        """Send a request; the answer's body is read, in pieces, inside the ``with`` block.

        Args:
            request: What to send.
            timeout_s: Longest wait for the connection, and for each next piece of the answer, in seconds.
            deadline: When everything must be over.

        Raises:
            ImageForbidden: The host has no address that may be reached.
            ImageUnreachable: The host did not answer in time, or the connection broke.
            ConnectionBroke: The connection broke in a way that another attempt may mend.
        """
        token = _deadline.set(deadline)
        host = request.url.host
        try:
            answer = self._pool.handle_request(_to_httpcore(request, timeout_s))
            try:
                yield httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), request=request)
            finally:
                answer.close()
        except httpcore.TimeoutException as fault:
            raise _explain_slowness(host, timeout_s, deadline) from fault
        except httpcore.ConnectError as fault:
            raise _explain_no_connection(host, fault) from fault
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as fault:
            raise ConnectionBroke(f"{host} broke off the connection before everything had arrived.") from fault
        except (httpcore.LocalProtocolError, httpx.DecodingError) as fault:
            raise ImageUnreachable(f"{host} did not answer in proper HTTP: {fault}.") from fault
        finally:
            _deadline.reset(token)

    def close(self) -> None:
        """Close all connections."""
        self._close()


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates, a company's own among them, and certifi's for systems that come without any."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class ConnectionBroke(ImageUnreachable):
    """The host closed or reset the connection; a second attempt is worth while."""


class _Body(httpx.SyncByteStream):
    """An answer's body, piece by piece."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()


def _to_httpcore(request: httpx.Request, timeout_s: float) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.content,
        extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)},
    )


def _explain_slowness(host: str, timeout_s: float, deadline: Deadline) -> ImageUnreachable:
    if deadline.has_passed:
        return ImageUnreachable(f"{host} is too slow: not everything came in time (IMAGE_DOWNLOAD_TIMEOUT_S).")
    return ImageUnreachable(f"{host} is too slow: nothing came from it for {timeout_s:g} s (IMAGE_TIMEOUT_S).")


def _explain_no_connection(host: str, fault: httpcore.ConnectError) -> ImageUnreachable:
    cause = fault.__context__  # httpcore's pool drops the cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ImageUnreachable(
            f"{host} shows a certificate that this server does not trust ({cause.verify_message}). "
            "If it is your own, name its authority's file in SSL_CERT_FILE."
        )
    if isinstance(cause, ssl.SSLError):
        return ImageUnreachable(f"{host} does not speak TLS ({cause.reason}). Is its address http instead of https?")
    if isinstance(fault, UnknownHost):
        return ImageUnreachable(f"There is no host named {host!r}, as seen from this server.")
    return ImageUnreachable(f"{host} does not accept connections: {fault}. Is it running, and the address right?")


def _explain_refusal(host: str, addresses: Iterable[str]) -> str:
    if not any(may_reach(each, allow_private_hosts=True) for each in addresses):
        return f"{host} is a link-local, multicast or reserved address: nothing is ever fetched from there."
    return (
        f"{host} is an address inside this server's own network, where it fetches no pictures. If that is where your "
        "pictures are, set IMAGE_ALLOW_PRIVATE_HOSTS=true; if it is your Label Studio, set LABEL_STUDIO_URL and "
        "LABEL_STUDIO_API_KEY."
    )


class _GuardedNetwork(httpcore.NetworkBackend):
    """Opens sockets to checked addresses alone."""

    def __init__(self, *, allow_private_hosts: bool) -> None:
        self._allow_private_hosts = allow_private_hosts
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        deadline = _deadline.get()
        found = resolve(host, port, timeout_s=deadline.clip(timeout))
        addresses = [each for each in found if may_reach(each, allow_private_hosts=self._allow_private_hosts)]
        if not addresses:
            raise ImageForbidden(_explain_refusal(host, found))
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._open(address, port, deadline.clip(timeout), local_address, socket_options)
        return self._open(addresses[-1], port, deadline.clip(timeout), local_address, socket_options)

    def _open(self, address: str, port: int, *rest: Any) -> httpcore.NetworkStream:
        return _TimedStream(self._sockets.connect_tcp(address, port, *rest))


class _TimedStream(httpcore.NetworkStream):
    """A socket whose every wait ends at the deadline of the exchange it serves."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _deadline.get().clip(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _deadline.get().clip(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, _deadline.get().clip(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
