"""JSON bodies, in and out; what they say is nothing to this module."""

from __future__ import annotations

import json
from typing import Any

import orjson
from flask import Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sam3_backend.errors import InvalidRequest


def json_response(answer: Any, status: int = 200) -> Response:
    """An answer as JSON."""
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), status, content_type="application/json")


def read_object() -> dict[str, Any]:
    """The request's body.

    Raises:
        InvalidRequest: It is not JSON, or not an object.
        HTTPException: It is too large, or says that it is something else.
    """
    if not request.is_json:
        raise UnsupportedMediaType("Send JSON: the Content-Type must be application/json.")
    body = request.get_data(cache=False)
    try:
        payload = _parse(body)
    except (ValueError, RecursionError) as fault:
        raise InvalidRequest(f"The request's body is not valid JSON: {fault}.") from fault
    if not isinstance(payload, dict):
        raise InvalidRequest("The request's body must be a JSON object.")
    return payload


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Python's own parser knows NaN, which Label Studio sends where a task's data holds it.
        return json.loads(body)
