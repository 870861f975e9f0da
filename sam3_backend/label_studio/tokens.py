"""Label Studio's two kinds of token, as something that a request can be opened with.

A legacy token is sent as it is. A personal access token is a JWT that only serves to ask for another one, which
lives for five minutes. Neither shows itself in a ``repr`` or in a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from typing import TYPE_CHECKING

import httpx

from sam3_backend.errors import ImageForbidden, ImageUnreachable, LabelStudioError
from sam3_backend.images.network import Deadline

if TYPE_CHECKING:
    from sam3_backend.images import Authorization
    from sam3_backend.images.network import HttpTransport

# Label Studio's access tokens live for 300 s; used where one does not say so itself.
_USUAL_LIFE_S = 300.0
# Renewed this long before the end, so that a slow request does not outlive its token.
_MARGIN_S = 30.0


def authorize(token: str, *, origin: str, source: str, transport: HttpTransport, timeout_s: float) -> Authorization:
    """The authorization that a token gives.

    Args:
        token: A legacy token, a personal access token, or an access token.
        origin: Label Studio's base URL, where a personal access token is exchanged.
        source: Where the token comes from, for messages: a setting's name, or a few words.
        transport: Connections to Label Studio.
        timeout_s: Longest wait for the exchange, in seconds.
    """
    kind = _jwt_payload(token).get("token_type")
    if kind is None:
        return FixedToken(f"Token {token}", source)
    if kind == "access":
        return FixedToken(f"Bearer {token}", source)
    return PersonalAccessToken(token, origin=origin, source=source, transport=transport, timeout_s=timeout_s)


def kind_of(token: str) -> str:
    """What kind of token it is, in words."""
    kinds = {None: "legacy token", "access": "access token, which lives for minutes only,"}
    kind = _jwt_payload(token).get("token_type")
    return kinds.get(kind if kind is None else str(kind), "personal access token")


class FixedToken:
    """A token that is sent as it is and cannot be renewed."""

    def __init__(self, header: str, source: str) -> None:
        self._header = header
        self._source = source
        self.advice = (
            f"It is {source}. It may have been revoked, or legacy tokens may be switched off in the organization: set "
            "LABEL_STUDIO_URL, and LABEL_STUDIO_API_KEY to a personal access token (Account & Settings)."
        )

    def __call__(self) -> str:
        """The ``Authorization`` header."""
        return self._header

    def renew(self, refused: str) -> bool:  # noqa: ARG002 - the protocol's
        """A fixed token has no successor."""
        return False

    def __repr__(self) -> str:
        return f"FixedToken({self._source})"


class PersonalAccessToken:
    """A personal access token, exchanged for access tokens as they run out; safe to share between threads."""

    def __init__(self, token: str, *, origin: str, source: str, transport: HttpTransport, timeout_s: float) -> None:
        self._token = token
        self._url = f"{origin}/api/token/refresh"
        self._source = source
        self._transport = transport
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._header = ""
        self._good_until_s = 0.0
        self.advice = f"It comes from the personal access token in {source}: make a new one in Account & Settings."

    def __call__(self) -> str:
        """The ``Authorization`` header with an access token that is still good.

        Raises:
            LabelStudioError: Label Studio does not exchange the token.
        """
        with self._lock:  # one exchange at a time; the others wait for its result
            if time.monotonic() >= self._good_until_s:
                self._exchange()
            return self._header

    def renew(self, refused: str) -> bool:
        """Forget the access token if it is the refused one; the next call gets another."""
        with self._lock:
            if self._header == refused:
                self._good_until_s = 0.0
        return True

    def __repr__(self) -> str:
        return f"PersonalAccessToken({self._source})"

    def _exchange(self) -> None:
        asked_s = time.monotonic()
        request = httpx.Request("POST", self._url, json={"refresh": self._token})
        try:
            with self._transport.exchange(
                request, timeout_s=self._timeout_s, deadline=Deadline.within(self._timeout_s)
            ) as answer:
                status, body, target = answer.status_code, _read_little(answer), answer.headers.get("location", "")
        except (ImageUnreachable, ImageForbidden) as fault:
            raise LabelStudioError(f"Label Studio cannot be asked for an access token: {fault}") from fault
        if status != httpx.codes.OK:
            raise self._explain(status, target)
        access = _access_token(body)
        self._header = f"Bearer {access}"
        payload = _jwt_payload(access)
        life_s = _number(payload.get("exp")) - _number(payload.get("iat"))
        self._good_until_s = asked_s + (life_s if life_s > _MARGIN_S else _USUAL_LIFE_S) - _MARGIN_S

    def _explain(self, status: int, target: str) -> LabelStudioError:
        if status in {400, 401, 403}:
            return LabelStudioError(
                f"Label Studio does not accept the personal access token in {self._source} (HTTP {status}): it is "
                "incomplete, expired or revoked. Make a new one in Account & Settings."
            )
        where = f" and points to {target.partition('?')[0]}" if target else ""
        return LabelStudioError(
            f"{self._url} answered HTTP {status}{where}, so there is no access token. Is LABEL_STUDIO_URL the address "
            "of a Label Studio that has personal access tokens?"
        )


def _read_little(answer: httpx.Response) -> bytes:
    """The first 64 KiB of a body, more than any token needs."""
    body = bytearray()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) >= 65536:
            break
    return bytes(body)


def _access_token(body: bytes) -> str:
    try:
        access = json.loads(body)["access"]
    except (ValueError, KeyError, TypeError) as fault:
        raise LabelStudioError("Label Studio's answer holds no access token. Is LABEL_STUDIO_URL right?") from fault
    return str(access)


def _jwt_payload(token: str) -> dict[str, object]:
    """What a JWT says of itself, unverified; empty if it is none."""
    parts = token.split(".")
    if len(parts) not in {2, 3}:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return payload if isinstance(payload, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
