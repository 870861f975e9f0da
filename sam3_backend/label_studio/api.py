"""Label Studio's own HTTP API, as far as this server uses it: JSON in, JSON out, tokens renewed.

Faults are ``LabelStudioError`` and say what to do. Does not know what is asked for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx

from sam3_backend.errors import ImageForbidden, ImageUnreachable, LabelStudioError
from sam3_backend.images.network import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sam3_backend.images import Authorization
    from sam3_backend.images.network import HttpTransport

_TAG = re.compile(r"<[^>]*>")


class LabelStudioApi:
    """One Label Studio, asked as one user. Safe to share between threads.

    Args:
        origin: Its base URL, without a slash at the end.
        authorization: What opens it.
        transport: Carries the requests.
        timeout_s: Longest wait for an answer, in seconds.
    """

    def __init__(
        self, origin: str, authorization: Authorization, transport: HttpTransport, timeout_s: float = 8.0
    ) -> None:
        self.origin = origin
        self._authorization = authorization
        self._transport = transport
        self._timeout_s = timeout_s

    def get(self, path: str, **query: object) -> Any:
        """What Label Studio answers to a GET, decoded.

        Args:
            path: Path on Label Studio, for example ``/api/projects/1/``.
            **query: Query parameters.

        Raises:
            LabelStudioError: It did not answer, or refused.
        """
        return self._ask("GET", path, query={name: str(value) for name, value in query.items()})

    def send(self, method: str, path: str, body: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """What Label Studio answers to a POST, PATCH or DELETE, maybe with a JSON body; raises as ``get``."""
        return self._ask(method, path, body=body)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> Any:
        header = self._authorization()
        status, answer = self._exchange(method, path, query, body, header)
        if status == httpx.codes.UNAUTHORIZED and self._authorization.renew(header):
            status, answer = self._exchange(method, path, query, body, self._authorization())
        if status == httpx.codes.UNAUTHORIZED:
            raise LabelStudioError(
                f"Label Studio at {self.origin} does not accept this server's token (HTTP 401). "
                f"{self._authorization.advice}",
                status,
            )
        if not httpx.codes.is_success(status):
            raise LabelStudioError(f"Label Studio answered HTTP {status} for {path}: {_said(answer)}", status)
        try:
            return json.loads(answer) if answer else None
        except ValueError as fault:
            raise LabelStudioError(
                f"{self.origin} did not answer {path} with JSON. Is LABEL_STUDIO_URL the address of a Label Studio?"
            ) from fault

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | Sequence[Any] | None,
        header: str,
    ) -> tuple[int, bytes]:
        request = httpx.Request(method, self.origin + path, params=query, json=body, headers={"Authorization": header})
        deadline = Deadline.within(4 * self._timeout_s)
        try:
            with self._transport.exchange(request, timeout_s=self._timeout_s, deadline=deadline) as answer:
                return answer.status_code, answer.read()
        except (ImageUnreachable, ImageForbidden) as fault:
            raise LabelStudioError(f"Label Studio at {self.origin} cannot be asked: {fault}") from fault


def _said(answer: bytes) -> str:
    """What Label Studio says in its refusal: the sentences for people where there are any."""
    raw = answer[:300].decode(errors="replace")
    try:
        refusal = json.loads(answer)
    except ValueError:
        return raw
    if not isinstance(refusal, dict):
        return raw
    faults = refusal.get("validation_errors")
    lists = faults.values() if isinstance(faults, dict) else []
    sentences = [str(each) for listed in lists for each in (listed if isinstance(listed, list) else [listed])]
    return _TAG.sub("", " ".join(sentences) or str(refusal.get("detail") or raw))[:1000]
