"""Pictures from addresses: the only downloader.

A location says where a picture is and whether it is Label Studio's own. Only Label Studio's own address may be a
private one and is sent a token; every redirect is followed by hand, so that both hold for each hop. Does not know
projects, tasks or how tokens are had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from sam3_backend.errors import (
    ImageError,
    ImageForbidden,
    ImageTooLarge,
    ImageUndecodable,
    ImageUnreachable,
    InvalidRequest,
)
from sam3_backend.images.inline import read_data_uri
from sam3_backend.images.location import PictureLocation, Validators, is_within, redact
from sam3_backend.images.network import ConnectionBroke, Deadline, HttpTransport
from sam3_backend.images.picture import PictureFile, read_picture_file

if TYPE_CHECKING:
    from sam3_backend.settings import Settings

_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "gzip, deflate", "User-Agent": "sam3-backend"}


@dataclass(frozen=True, slots=True)
class Download:
    """A picture's file, and what its host calls this version of it."""

    file: PictureFile
    validators: Validators


class PictureLoader:
    """Downloads pictures; safe to share between threads, keeps connections open.

    Args:
        timeout_s: Longest wait for a connection, and for each next piece of an answer, in seconds.
        download_timeout_s: Longest time for one picture in all, redirects included, in seconds.
        max_bytes: Largest file.
        max_pixels: Largest picture, width times height.
        allow_private_hosts: Fetch from loopback and private addresses that are not Label Studio's too.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 8.0,
        download_timeout_s: float = 30.0,
        max_bytes: int = 64 * 1024**2,
        max_pixels: int = 100_000_000,
        allow_private_hosts: bool = False,
    ) -> None:
        self._timeout_s = timeout_s
        self._download_timeout_s = download_timeout_s
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        # Two pools: a connection to a private address, opened for Label Studio, is never lent to anybody else.
        self._to_label_studio = HttpTransport(allow_private_hosts=True)
        self._to_others = HttpTransport(allow_private_hosts=allow_private_hosts)

    @classmethod
    def from_settings(cls, settings: Settings) -> PictureLoader:
        """A loader with the limits that the settings name."""
        return cls(
            timeout_s=settings.image_timeout_s,
            download_timeout_s=settings.image_download_timeout_s,
            max_bytes=settings.image_max_bytes,
            max_pixels=settings.image_max_pixels,
            allow_private_hosts=settings.image_allow_private_hosts,
        )

    def download(self, location: PictureLocation, unless: Validators | None = None) -> Download | None:
        """Fetch a picture's file, or None where it is still the version that ``unless`` names.

        Raises:
            ImageForbidden: The address is one this server must not fetch from.
            ImageUnreachable: The host did not answer in time, or answered with an error.
            ImageTooLarge: The file has too many bytes or pixels.
            ImageUndecodable: What came is not a picture.
            InvalidRequest: The address is not one.
            LabelStudioError: Label Studio does not give a token for the authorization.
        """
        if location.is_inline:
            body: _Body | None = _Body(read_data_uri(location, self._max_bytes), Validators())
        else:
            body = self._download(location, unless or Validators())
        if body is None:
            return None
        try:
            return Download(read_picture_file(body.data, max_pixels=self._max_pixels), body.validators)
        except ImageUndecodable as fault:
            raise ImageUndecodable(f"{location.name}: {fault}") from fault

    def close(self) -> None:
        """Close all connections."""
        self._to_label_studio.close()
        self._to_others.close()

    def _download(self, location: PictureLocation, unless: Validators) -> _Body | None:
        deadline = Deadline.within(self._download_timeout_s)
        for _ in range(_MOST_REDIRECTS + 1):
            url = _parse(location.url)
            # Once a redirect has left Label Studio, nothing brings the trust back.
            if location.is_trusted and not is_within(url, location.origin):
                location = replace(location, is_trusted=False, authorization=None)
            answer = self._get_with_second_attempt(url, location, deadline, unless)
            if not isinstance(answer, httpx.URL):
                return answer
            location = replace(location, url=str(answer))
        raise ImageUnreachable(f"{location.name} is redirected more than {_MOST_REDIRECTS} times.")

    def _get_with_second_attempt(
        self, url: httpx.URL, location: PictureLocation, deadline: Deadline, unless: Validators
    ) -> _Body | httpx.URL | None:
        """What ``_get`` returns; a broken connection and a refused token get a second attempt."""
        try:
            return self._get(url, location, deadline, unless)
        except ConnectionBroke:
            return self._get(url, location, deadline, unless)
        except _TokenRefused as refusal:
            if location.authorization is not None and location.authorization.renew(refusal.header):
                return self._get(url, location, deadline, unless)
            raise

    def _get(
        self, url: httpx.URL, location: PictureLocation, deadline: Deadline, unless: Validators
    ) -> _Body | httpx.URL | None:
        """The body, the address to go on to, or None where it is still the version that ``unless`` names."""
        transport = self._to_label_studio if location.is_trusted else self._to_others
        headers = _HEADERS | unless.headers()
        if location.authorization is not None:
            headers["Authorization"] = location.authorization()
        request = httpx.Request("GET", url, headers=headers)
        with transport.exchange(request, timeout_s=self._timeout_s, deadline=deadline) as answer:
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                _drain(answer)
                return _follow(url, answer.headers["location"])
            if answer.status_code == 304 and unless.headers():
                return None
            if answer.status_code == 200:
                return _Body(self._read_body(answer, location), _validators(answer))
            _drain(answer)
        raise _explain_status(url, answer.status_code, location, headers.get("Authorization", ""))

    def _read_body(self, answer: httpx.Response, location: PictureLocation) -> bytes:
        if _announced_bytes(answer) > self._max_bytes:
            raise self._too_large(location)
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > self._max_bytes:
                raise self._too_large(location)
        return bytes(body)

    def _too_large(self, location: PictureLocation) -> ImageTooLarge:
        return ImageTooLarge(f"{location.name} has more than {self._max_bytes:,} bytes (IMAGE_MAX_BYTES).")


@dataclass(frozen=True, slots=True)
class _Body:
    """What a host answered."""

    data: bytes
    validators: Validators


class _TokenRefused(ImageForbidden):
    """Label Studio answered 401."""

    def __init__(self, message: str, header: str) -> None:
        super().__init__(message)
        self.header = header


def _parse(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as fault:
        raise InvalidRequest(f"{redact(address)!r} is not an address: {fault}.") from fault
    if url.scheme not in {"http", "https"}:
        raise ImageForbidden(f"{redact(address)!r} is not fetched: only http, https and data addresses are.")
    if not url.host:
        raise InvalidRequest(f"{redact(address)!r} names no host.")
    return url


def _follow(url: httpx.URL, target: str) -> httpx.URL:
    try:
        return url.join(target)
    except httpx.InvalidURL as fault:
        raise ImageUnreachable(f"{url.host} redirects to something that is not an address: {fault}.") from fault


def _validators(answer: httpx.Response) -> Validators:
    return Validators(answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))


def _announced_bytes(answer: httpx.Response) -> int:
    announced = answer.headers.get("content-length", "")
    return int(announced) if announced.isdigit() else -1


def _drain(answer: httpx.Response) -> None:
    """Read a small body that nobody wants, so that its connection can be used again."""
    if 0 <= _announced_bytes(answer) <= 4096:
        answer.read()


def _explain_status(url: httpx.URL, status: int, location: PictureLocation, sent: str) -> ImageError:
    if location.is_trusted:
        return _explain_label_studio_status(status, location, sent)
    where = location.name if redact(str(url)) == location.name else f"{location.name} (at {url.host})"
    if status in {401, 403}:
        return ImageForbidden(f"{where} was answered with HTTP {status}: its host wants a login or a newer signature.")
    return ImageUnreachable(f"{where} was answered with HTTP {status}.")


def _explain_label_studio_status(status: int, location: PictureLocation, sent: str) -> ImageError:
    where, studio = location.name, f"Label Studio at {location.origin}"
    if status == 401:
        advice = "Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        if location.authorization is not None:
            advice = location.authorization.advice
        return _TokenRefused(f"{studio} does not accept this server's token (HTTP 401 for {where}). {advice}", sent)
    if status == 403:
        return ImageForbidden(
            f"{studio} does not show {where} to the token's user (HTTP 403). Use the token of a user who is in the "
            "project; for local files, start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true."
        )
    if status == 404:
        return ImageUnreachable(
            f"{studio} has no picture for {where} (HTTP 404). Is the storage it comes from still connected to the "
            "project?"
        )
    return ImageUnreachable(
        f"{studio} answered HTTP {status} for {where}. It does so for deleted uploads too; its own log says why."
    )
