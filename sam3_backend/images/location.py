"""Where a picture is, whether its host is Label Studio, and what may be said of its address.

Fetches nothing; knows no projects and no tasks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

import httpx


class Authorization(Protocol):
    """Something that opens Label Studio's doors; its ``repr`` shows no secret.

    Attributes:
        advice: What to do when Label Studio refuses it, one sentence.
    """

    advice: str

    def __call__(self) -> str:
        """The value of the ``Authorization`` header, good at this moment."""

    def renew(self, refused: str) -> bool:
        """Told that this value was refused: whether the next call gives another one."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What a host calls one version of a file; empty strings where it does not say.

    Attributes:
        etag: Its ``ETag``.
        last_modified: Its ``Last-Modified``.
    """

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """The headers that ask for the file only if it is another version by now."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class PictureLocation:
    """Where a picture is.

    Attributes:
        url: ``http(s)://`` address or ``data:`` URI.
        is_trusted: Whether this is Label Studio's own address: it may be a private one and is sent the authorization.
        authorization: What opens it, or None.
        origin: Label Studio's base URL where trusted, maybe with a path; the authorization goes nowhere else.
        uri: The address as the task gives it, for messages; None where it is the same as ``url``.
        is_immutable: Whether the address stands for the same content for ever.
    """

    url: str
    is_trusted: bool = False
    authorization: Authorization | None = field(default=None, repr=False)
    origin: str | None = None
    uri: str | None = None
    is_immutable: bool = False

    def __repr__(self) -> str:
        return f"PictureLocation({redact(self.url)!r}, is_trusted={self.is_trusted})"

    @property
    def is_inline(self) -> bool:
        """Whether the address holds the picture itself."""
        return self.url[:5].lower() == "data:"

    @property
    def name(self) -> str:
        """What to call the picture before people: its address without secrets."""
        return redact(self.uri or self.url)


def redact(url: str) -> str:
    """An address fit for logs and for people: without its query, which may be a signature, and without user names.

    Of Label Studio's local files the query is the name, and stays.
    """
    if url[:5].lower() == "data:":
        return "data: URI"
    bare, mark, query = url.partition("#")[0].partition("?")
    bare = re.sub(r"//[^/@]*@", "//", bare)
    if bare.endswith("/data/local-files/") and query.startswith("d=") and "&" not in query:
        bare += mark + query
    return bare if len(bare) <= 200 else bare[:200] + "…"


def is_within(url: httpx.URL, origin: str | None) -> bool:
    """Whether an address has this origin: same scheme, host and port, and below its path if it has one."""
    if origin is None:
        return False
    base = httpx.URL(origin)
    path = base.path.rstrip("/")
    if ".." in url.path.split("/"):  # percent-encoded dots, which a proxy in front might still go up by
        return False
    return (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port) and (
        url.path == path or url.path.startswith(path + "/")
    )
