"""The HTTP contract: routes, statuses and JSON, and nothing of what is answered.

Requests are read here and handed to the backend as plain objects; its answers are written as JSON. Every fault leaves
as ``{"error": {"code", "message"}}``. This module does not know tasks, prompts or the model.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from sam3_backend.errors import BackendError, ModelBusy, ModelNotReady, Unauthorized
from sam3_backend.server import logs, metrics
from sam3_backend.server.auth import BasicAuth
from sam3_backend.server.bodies import json_response, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sam3_backend.settings import Settings

logger = logging.getLogger(__name__)

WEBHOOK_MAX_BYTES = 32 * 1024**2
"""Event webhooks come without credentials, so anybody may send one: less is read of them."""

BUSY_MAX_BYTES = 4 * 1024**2
"""A server with its hands full reads larger requests no further than it must."""

OPEN_ENDPOINTS = frozenset({"health", "webhook"})
"""Label Studio sends no credentials there; a START_TRAINING webhook carries them and is checked on its own."""

GIVEN_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Backend(Protocol):
    """What answers requests: ``label_studio.backend.LabelStudioBackend``. Faults are ``BackendError``."""

    def setup(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """A project connects or is looked at."""

    def predict(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tasks want predictions."""

    def tell(self, payload: Mapping[str, Any], fault: BackendError) -> Mapping[str, Any] | None:
        """Predictions are refused: the answer that shows an annotator why, or None where an error status must do."""

    def webhook(self, payload: Mapping[str, Any]) -> object:
        """Something happened in a project."""

    def versions(self) -> Mapping[str, Any]:
        """The model versions this server answers with."""


def create_app(
    backend: Backend,
    *,
    settings: Settings,
    facts: Callable[[], Mapping[str, Any]],
    counts: metrics.Metrics,
    is_ready: Callable[[], bool] = lambda: True,
) -> Flask:
    """The server's WSGI application.

    Args:
        backend: Answers ``/setup``, ``/predict``, ``/webhook`` and ``/versions``.
        settings: Credentials and limits.
        facts: What ``/health`` says about the model: ``model_class``, ``model_version``, ``checkpoint`` ...; must be
            cheap, it never waits for the model.
        counts: Where requests are counted.
        is_ready: Whether predictions would be answered now.
    """
    app = Flask("sam3_backend", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.request_max_bytes
    auth = BasicAuth(settings)
    handlers = _Handlers(backend, settings, facts, counts, is_ready, auth)
    app.add_url_rule("/", "root", handlers.health)
    app.add_url_rule("/health", "health", handlers.health)
    app.add_url_rule("/ready", "ready", handlers.ready)
    app.add_url_rule("/setup", "setup", handlers.setup, methods=["POST"])
    app.add_url_rule("/predict", "predict", handlers.predict, methods=["POST"])
    app.add_url_rule("/webhook", "webhook", handlers.webhook, methods=["POST"])
    app.add_url_rule("/versions", "versions", handlers.versions, methods=["GET", "POST"])
    app.add_url_rule("/metrics", "metrics", handlers.metrics)

    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        logs.request_id.set(given if GIVEN_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:12])
        if request.endpoint not in OPEN_ENDPOINTS:
            auth.require(request.authorization)

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        seconds = time.perf_counter() - g.started
        counts.observe_request(route, response.status_code, seconds)
        level = logging.INFO if request.endpoint == "predict" or response.status_code >= 400 else logging.DEBUG
        logger.log(level, "%s %s %d in %.0f ms", request.method, route, response.status_code, 1000 * seconds)
        response.headers["X-Request-ID"] = logs.request_id.get()
        return response

    @app.errorhandler(Exception)
    def fail(fault: Exception) -> Response:
        response, code = _explain(fault)
        counts.count_failure(code)
        return response

    return app


class _Handlers:
    """One method per route."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        facts: Callable[[], Mapping[str, Any]],
        counts: metrics.Metrics,
        is_ready: Callable[[], bool],
        auth: BasicAuth,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._facts = facts
        self._counts = counts
        self._is_ready = is_ready
        self._auth = auth
        self._places = threading.BoundedSemaphore(settings.threads)

    def health(self) -> Response:
        return json_response({"status": "UP", **self._facts(), "ready": self._is_ready()})

    def ready(self) -> Response:
        if not self._is_ready():
            raise ModelNotReady("The model is not ready for predictions. Try again in a moment.")
        return json_response({"ready": True})

    def setup(self) -> Response:
        return json_response(self._backend.setup(read_object()))

    def predict(self) -> Response:
        # /health and /setup have request threads left because no more predictions than this are let in.
        if not self._places.acquire(blocking=False):
            most = self._settings.threads
            busy = ModelBusy(
                f"{most} predictions are being worked on already. Try again in a moment, or raise THREADS."
            )
            return self._refuse(read_object() if (request.content_length or 0) <= BUSY_MAX_BYTES else {}, busy)
        self._counts.prediction_started()
        try:
            return self._answer(read_object())
        finally:
            self._counts.prediction_ended()
            self._places.release()

    def _answer(self, payload: Mapping[str, Any]) -> Response:
        try:
            return json_response(self._backend.predict(payload))
        except BackendError as fault:
            return self._refuse(payload, fault)

    def _refuse(self, payload: Mapping[str, Any], fault: BackendError) -> Response:
        """Show it to the annotator, who would see nothing of an error status; else raise it."""
        told = self._backend.tell(payload, fault)
        if told is None:
            raise fault
        logger.warning("%s: %s", fault.code, fault.message)
        self._counts.count_failure(fault.code)
        return json_response(told)

    def webhook(self) -> Response:
        request.max_content_length = min(WEBHOOK_MAX_BYTES, self._settings.request_max_bytes)
        event = read_object()
        if event.get("action") == "START_TRAINING":
            self._auth.require(request.authorization)
        try:
            self._backend.webhook(event)
        except BackendError as fault:  # Label Studio cannot do anything about it
            logger.warning("A webhook was ignored: %s", fault.message)
            self._counts.count_failure(fault.code)
        return json_response({"status": "ok"})

    def versions(self) -> Response:
        return json_response(self._backend.versions())

    def metrics(self) -> Response:
        return Response(self._counts.text(), content_type=metrics.content_type)


def _explain(fault: Exception) -> tuple[Response, str]:
    """The answer to a request that failed, and its error code; tracebacks go to the log alone."""
    if isinstance(fault, BackendError):
        code, message, status = fault.code, fault.message, fault.http_status
        logger.log(logging.ERROR if status >= 500 else logging.WARNING, "%s: %s", code, message, exc_info=status >= 500)
    elif isinstance(fault, HTTPException):
        status = fault.code or 500
        code, message = fault.name.lower().replace(" ", "_"), _in_our_words(fault)
    else:
        code, status = "internal_error", 500
        message = f"Something unexpected went wrong. The server's log tells more under {logs.request_id.get()}."
        logger.error("Unexpected fault", exc_info=fault)
    response = json_response({"error": {"code": code, "message": message}}, status)
    if isinstance(fault, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Basic realm="sam3-backend"'
    if isinstance(fault, BackendError) and fault.retryable:
        response.headers["Retry-After"] = "1"
    return response, code


def _in_our_words(fault: HTTPException) -> str:
    if fault.code == 404:
        return "There is nothing at this address. Label Studio needs the server's address alone, without a path."
    if fault.code == 413:
        return "The request is larger than this server reads. REQUEST_MAX_BYTES sets the limit."
    return fault.description or fault.name
