"""How Redis is reached: what its address says of TLS, user and password, and what is told where that fails.

Nothing that leaves this module in words holds a password: neither errors nor log lines.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sam3_backend.errors import SettingsError

FORM = "redis[s]://[[user]:password@]host[:port][/db][?option=value]"
FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""Options of the address that name files."""

RIGHTS = "The rights that Redis' user needs are in docs/operations.md."
TLS_WANTED = "Where that port speaks TLS, REDIS_URL starts with rediss://."

ADVICE = {
    "invalid username-password": "REDIS_URL has a user or password that Redis does not know.",
    "Authentication required": f"REDIS_URL needs a password: {FORM}.",
    "no permissions": RIGHTS,
    "can't run this command": RIGHTS,
    "EXEC without MULTI": RIGHTS,
    "CERTIFICATE_VERIFY_FAILED": (
        "REDIS_URL must name the host that the certificate was issued for, and its authority where it is one of your "
        "own: ?ssl_ca_certs=/path/ca.crt."
    ),
    "used memory > 'maxmemory'": "Set maxmemory-policy allkeys-lru in Redis, so that old embeddings make room.",
    "certificate required": "Redis wants a certificate from here: ?ssl_certfile=/path/x.crt&ssl_keyfile=/path/x.key.",
    "closed by server": TLS_WANTED,
    "reset by peer": TLS_WANTED,
}
"""What to do, by a word of what Redis or the way to it says."""


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A client that connects when it is first used, and gives up rather than wait or try again.

    Args:
        url: As in ``FORM``; options are those of redis-py, ``ssl_ca_certs`` above all.
        timeout_s: Longest wait for Redis to connect or to go on answering.

    Raises:
        SettingsError: The address cannot be used, whatever stands behind it.
    """
    _check_form(url)
    try:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=30,
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # connects to nothing, but refuses options it does not know
    except (TypeError, ValueError, RedisError) as fault:
        raise SettingsError(f"REDIS_URL cannot be used: {fault}. Options are those of redis-py.") from fault
    for name in FILES:
        path = pool.connection_kwargs.get(name)
        if path is not None and not Path(path).exists():
            raise SettingsError(f"REDIS_URL cannot be used: there is no {path}, which {name} names.")
    return client


def in_words(fault: Exception) -> str:
    """What went wrong at Redis or on the way there, in one line, and what to do where that is known."""
    said = " ".join(str(fault).split()) or type(fault).__name__
    return " ".join([said, *(advice for word, advice in ADVICE.items() if word in said)])


def _check_form(url: str) -> None:
    """Find a password that ends early because it holds a character with a meaning; quoting it is not an option.

    Raises:
        SettingsError: The address is not of the form.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme == "unix" or "@" not in parts.path + parts.query + parts.fragment
        is_address = is_address and not parts.fragment and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")
    except ValueError:
        is_address = False
    if not is_address:
        raise SettingsError(
            f"REDIS_URL cannot be used: it is not of the form {FORM}. In user and password, write : / ? # @ and % as "
            "%3A %2F %3F %23 %40 and %25."
        )
