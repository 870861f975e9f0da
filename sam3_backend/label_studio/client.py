"""Where Label Studio is, and what opens it.

Two sources of knowledge: the settings, and what Label Studio tells of itself at ``/setup`` (its address and a token,
for each project). The settings win. What one Label Studio told never serves for another one. Turns the addresses that
tasks carry into locations that the picture loader can fetch; fetches nothing itself.
"""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx

from sam3_backend.errors import ImageForbidden, InvalidRequest
from sam3_backend.images import PictureLocation
from sam3_backend.images.location import is_within, redact
from sam3_backend.images.network import HttpTransport
from sam3_backend.label_studio.api import LabelStudioApi
from sam3_backend.label_studio.tokens import authorize

if TYPE_CHECKING:
    from sam3_backend.images import Authorization
    from sam3_backend.settings import Settings

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):")
_STORAGE_SCHEMES = {"s3", "gs", "azure-blob"}
# Where Label Studio serves pictures; an address elsewhere on its host belongs to somebody else.
_OWN_PATHS = ("/data/", "/storage-data/", "/tasks/", "/projects/")
# Label Studio gives every upload a new name; what is uploaded under one never changes.
_IMMUTABLE_PATHS = ("/data/upload/", "/storage-data/uploaded/")
# Anybody who reaches /setup can add a project; this many are remembered.
_MOST_PROJECTS = 4096
_MOST_ADDRESSES = 1024
_WHAT_TO_SET = "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
_WHAT_TO_DO = f"reload the page in Label Studio, so that it introduces itself, or {_WHAT_TO_SET}"


@dataclass(frozen=True)
class _Introduction:
    """One Label Studio and a token for it, such as it sends at ``/setup`` for a project."""

    origin: str | None
    token: str = field(repr=False)


class LabelStudioAccess:
    """The Label Studio instances this server works for; safe to share between threads.

    Args:
        url: Where Label Studio answers, as seen from this server; None to believe what it says at ``/setup``.
        api_key: Legacy or personal access token; None to use what it sends at ``/setup``.
        timeout_s: Longest wait for an exchange of tokens, in seconds.
    """

    def __init__(self, *, url: str | None = None, api_key: str | None = None, timeout_s: float = 8.0) -> None:
        self._url = _origin(url) if url else None
        self._api_key = api_key or None
        self._timeout_s = timeout_s
        self._transport = HttpTransport(allow_private_hosts=True)
        self._lock = threading.Lock()
        self._introductions: OrderedDict[str, _Introduction] = OrderedDict()
        self._authorizations: OrderedDict[_Introduction, Authorization] = OrderedDict()
        # A key belongs to one Label Studio. Where the settings do not say which, it is the first to introduce itself.
        self._key_origin = self._url

    @classmethod
    def from_settings(cls, settings: Settings) -> LabelStudioAccess:
        """Access by what the settings name."""
        key = settings.label_studio_api_key
        return cls(
            url=settings.label_studio_url,
            api_key=key.get_secret_value() if key else None,
            timeout_s=settings.image_timeout_s,
        )

    def learn(self, project: str, hostname: str, access_token: str) -> None:
        """Remember how Label Studio introduced itself for a project.

        Args:
            project: The project's key, as ``/setup`` and ``/predict`` send it.
            hostname: Label Studio's own address; may lack its scheme, may be empty.
            access_token: Token of the project's creator; may be empty.
        """
        introduction = _Introduction(_origin(hostname), (access_token or "").strip())
        with self._lock:
            self._introductions[project] = introduction
            self._introductions.move_to_end(project)
            while len(self._introductions) > _MOST_PROJECTS:
                self._introductions.popitem(last=False)
            if self._api_key and self._key_origin is None and introduction.origin:
                self._key_origin = introduction.origin
                logger.warning(
                    "LABEL_STUDIO_API_KEY is set without LABEL_STUDIO_URL: it is now used for %s alone",
                    introduction.origin,
                )

    def locate(self, uri: str, *, project: str | None, task_id: int | None) -> PictureLocation:
        """Say where to fetch a task's picture.

        Args:
            uri: The address as the task carries it.
            project: The project's key, as ``/predict`` sends it.
            task_id: The task's number in Label Studio; cloud storage needs it.

        Raises:
            InvalidRequest: The address is none, or too little is known to find it; says what to set.
            ImageForbidden: Addresses of this kind are not fetched.
        """
        uri = uri.strip()
        with self._lock:
            introduction = self._introductions.get(project) if project is not None else None
        origin = self._url or (introduction.origin if introduction else None)
        path = self._path_at_label_studio(uri, origin, introduction, task_id)
        if path is None:
            return PictureLocation(uri)
        if origin is None:
            raise InvalidRequest(f"{redact(uri)} is a picture of a Label Studio that is unknown here: {_WHAT_TO_DO}")
        return PictureLocation(
            url=origin + path,
            is_trusted=True,
            authorization=self._authorization(origin, introduction),
            origin=origin,
            uri=uri,
            is_immutable=path.startswith(_IMMUTABLE_PATHS),
        )

    def api(self, project: str | None) -> LabelStudioApi:
        """The API of the Label Studio that a project belongs to.

        Args:
            project: The project's key, as ``/setup`` and ``/predict`` send it.

        Raises:
            InvalidRequest: Too little is known of it; says what to set.
        """
        with self._lock:
            introduction = self._introductions.get(project) if project is not None else None
        origin = self._url or (introduction.origin if introduction else None)
        authorization = self._authorization(origin, introduction) if origin else None
        if origin is None or authorization is None:
            # No page introduces itself to a command, which asks without a project.
            advice = _WHAT_TO_SET if project is None else _WHAT_TO_DO
            raise InvalidRequest(f"Label Studio's API cannot be asked: {advice}")
        return LabelStudioApi(origin, authorization, self._transport, self._timeout_s)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _path_at_label_studio(
        self, uri: str, origin: str | None, introduction: _Introduction | None, task_id: int | None
    ) -> str | None:
        """Path and query below Label Studio's base; None for what is not Label Studio's to give."""
        scheme = _SCHEME.match(uri)
        if scheme is None:
            return _relative_path(uri, origin)
        kind = scheme.group(1).lower()
        if kind in _STORAGE_SCHEMES:
            return _presign_path(uri, task_id)
        if kind in {"http", "https"}:
            return self._own_path(uri, origin, introduction)
        if kind == "data":
            return None
        raise ImageForbidden(
            f"{redact(uri)!r} is not fetched: addresses may start with http, https, data, s3, gs or azure-blob."
        )

    def _own_path(self, uri: str, origin: str | None, introduction: _Introduction | None) -> str | None:
        """Path and query below Label Studio's base, if an absolute address is Label Studio's own.

        With LABEL_STUDIO_URL set, the address Label Studio believes to have counts as well: behind a proxy or in a
        container the two differ, and only the setting can be reached from here.
        """
        url = _parse(uri)
        for base in (origin, introduction.origin if introduction else None):
            if base is None or not is_within(url, base):
                continue
            below = url.raw_path.decode("ascii")[len(httpx.URL(base).raw_path.rstrip(b"/")) :]
            if below.startswith(_OWN_PATHS):
                return below
        return None

    def _authorization(self, origin: str, introduction: _Introduction | None) -> Authorization | None:
        with self._lock:
            if self._api_key and origin == self._key_origin:
                token, source = self._api_key, "LABEL_STUDIO_API_KEY"
            elif introduction and introduction.token:
                token, source = introduction.token, "the token that Label Studio sent at /setup"
            else:
                return None
            who = _Introduction(origin, token)
            known = self._authorizations.get(who)
            if known is None:
                known = authorize(
                    token, origin=origin, source=source, transport=self._transport, timeout_s=self._timeout_s
                )
                self._authorizations[who] = known
                while len(self._authorizations) > _MOST_PROJECTS:
                    self._authorizations.popitem(last=False)
            return known


def _origin(hostname: str | None) -> str | None:
    """A base URL without a slash at its end, from what people and Label Studio write; None if it cannot be one."""
    text = (hostname or "").strip()
    if not text:
        return None
    if "://" not in text:
        text = f"http://{text}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return None
    if url.scheme not in {"http", "https"} or not url.host:
        return None
    return str(url.copy_with(query=None, fragment=None, username=None, password=None)).rstrip("/")


@lru_cache(maxsize=_MOST_ADDRESSES)
def _parse(uri: str) -> httpx.URL:
    try:
        return httpx.URL(uri)
    except httpx.InvalidURL as fault:
        raise InvalidRequest(f"{redact(uri)!r} is not an address: {fault}.") from fault


def _presign_path(uri: str, task_id: int | None) -> str:
    """Where Label Studio hands out a bucket's object: itself, or by a redirect to a signed address."""
    if task_id is None:
        raise InvalidRequest(f"{redact(uri)} is in cloud storage, which needs the task's id, and the request has none.")
    return f"/tasks/{task_id}/presign/?fileuri={base64.urlsafe_b64encode(uri.encode()).decode()}"


@lru_cache(maxsize=_MOST_ADDRESSES)
def _relative_path(uri: str, origin: str | None) -> str:
    """Path and query below Label Studio's base of an address without a host."""
    if uri.startswith("//"):
        raise InvalidRequest(f"{redact(uri)!r} lacks its scheme: write https: before it.")
    path = uri if uri.startswith("/") else f"/{uri}"
    if path.startswith("/upload/"):  # as old exports have it
        path = f"/data{path}"
    if path == "/":
        raise InvalidRequest("The task's picture has no address.")
    base_path = httpx.URL(origin).path.rstrip("/") if origin else ""
    below = path.removeprefix(base_path) if base_path and path.startswith(f"{base_path}/") else path
    return _parse(f"http://host{below}").raw_path.decode("ascii")
