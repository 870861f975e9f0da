"""The HTTP contract over a backend that says what it is told to."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from sam3_backend.errors import BackendError, ImageUnreachable, InvalidLabelConfig, ModelOutOfMemory
from sam3_backend.server import logs
from sam3_backend.server.app import WEBHOOK_MAX_BYTES, create_app
from sam3_backend.server.metrics import Metrics
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

FACTS = {"model_class": "SAM3", "model_version": "v1", "checkpoint": "demo"}
SECRET = "s3cr3t-t0k3n-0f-the-creator"


class ScriptedBackend:
    """Answers with what a test puts in, or raises it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.fault: Exception | None = None
        self.while_predicting: Callable[[], None] = lambda: None

    def setup(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._answer("setup", payload, {"model_version": "v1"})

    def predict(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        self.while_predicting()
        return self._answer("predict", payload, {"results": [{"result": [], "model_version": "v1"}]})

    def tell(self, payload: Mapping[str, Any], fault: BackendError) -> Mapping[str, Any] | None:
        return {"results": [{"result": [fault.message]}]} if payload.get("somebody waits") else None

    def webhook(self, payload: Mapping[str, Any]) -> object:
        return self._answer("webhook", payload, {})

    def versions(self) -> Mapping[str, Any]:
        return self._answer("versions", None, {"versions": ["v1"]})

    def _answer(self, route: str, payload: Any, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        self.seen.append((route, payload))
        if self.fault:
            raise self.fault
        return answer


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


def client_of(backend: ScriptedBackend, *, is_ready: bool = True, **settings: object) -> FlaskClient:
    app = create_app(
        backend,
        settings=Settings(**settings),
        facts=lambda: FACTS,
        counts=Metrics(),
        is_ready=lambda: is_ready,
    )
    return app.test_client()


@pytest.fixture
def client(backend: ScriptedBackend) -> FlaskClient:
    return client_of(backend)


def error_of(answer: TestResponse) -> tuple[int, str, str]:
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}
    return answer.status_code, answer.json["error"]["code"], answer.json["error"]["message"]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def metric(client: FlaskClient, line: str) -> float:
    lines = client.get("/metrics").get_data(as_text=True).splitlines()
    return next(float(each.rpartition(" ")[2]) for each in lines if each.startswith(line + " "))


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_says_what_answers(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json == {"status": "UP", "ready": True, **FACTS}


def test_readiness_has_a_status_of_its_own(backend: ScriptedBackend) -> None:
    assert client_of(backend).get("/ready").status_code == 200
    waiting = client_of(backend, is_ready=False)
    assert error_of(waiting.get("/ready"))[:2] == (503, "model_not_ready")
    assert waiting.get("/health").json["ready"] is False


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/setup", {"model_version": "v1"}),
        ("POST", "/predict", {"results": [{"result": [], "model_version": "v1"}]}),
        ("POST", "/webhook", {"status": "ok"}),
        ("GET", "/versions", {"versions": ["v1"]}),
        ("POST", "/versions", {"versions": ["v1"]}),
    ],
)
def test_every_route_of_the_contract_answers(client: FlaskClient, method: str, path: str, answer: object) -> None:
    given = client.open(path, method=method, json={"a": 1} if method == "POST" else None)
    assert given.status_code == 200
    assert given.content_type == "application/json"
    assert given.json == answer


def test_the_backend_gets_the_body_as_it_was_sent(client: FlaskClient, backend: ScriptedBackend) -> None:
    client.post("/predict", json={"tasks": [{"id": 1, "data": {"image": "/ü.png"}}]})
    assert backend.seen == [("predict", {"tasks": [{"id": 1, "data": {"image": "/ü.png"}}]})]


def test_not_a_number_in_a_tasks_data_does_not_spoil_the_batch(client: FlaskClient, backend: ScriptedBackend) -> None:
    answer = client.post("/predict", data='{"tasks": [{"data": {"depth": NaN}}]}', content_type="application/json")
    assert answer.status_code == 200
    assert str(backend.seen[0][1]["tasks"][0]["data"]["depth"]) == "nan"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
def test_malformed_json_is_the_senders_fault(client: FlaskClient, path: str, body: bytes, part: str) -> None:
    status, code, message = error_of(client.post(path, data=body, content_type="application/json"))
    assert (status, code) == (400, "invalid_request")
    assert part in message


def test_another_content_type_is_refused(client: FlaskClient) -> None:
    status, code, message = error_of(client.post("/predict", data=b"{}", content_type="text/plain"))
    assert (status, code) == (415, "unsupported_media_type")
    assert "application/json" in message


def test_unknown_addresses_and_methods_are_json_too(client: FlaskClient) -> None:
    assert error_of(client.get("/nothing/here"))[:2] == (404, "not_found")
    assert error_of(client.get("/predict"))[:2] == (405, "method_not_allowed")


def test_a_body_over_the_limit_is_refused_with_the_setting_to_raise(backend: ScriptedBackend) -> None:
    client = client_of(backend, request_max_bytes=2048)
    status, code, message = error_of(client.post("/predict", json={"tasks": ["x" * 4096]}))
    assert (status, code) == (413, "request_entity_too_large")
    assert "REQUEST_MAX_BYTES" in message
    assert backend.seen == []


def test_less_is_read_of_webhooks_because_anybody_may_send_them(backend: ScriptedBackend) -> None:
    client = client_of(backend)
    body = b'{"padding": "' + b"x" * WEBHOOK_MAX_BYTES + b'"}'
    assert client.post("/webhook", data=body, content_type="application/json").status_code == 413
    assert client.post("/predict", data=body, content_type="application/json").status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (InvalidLabelConfig("Add an Image tag."), 400, "invalid_label_config"),
        (ImageUnreachable("The host is down."), 502, "image_unreachable"),
        (ModelOutOfMemory("No memory is left."), 503, "model_out_of_memory"),
    ],
)
def test_a_known_fault_keeps_its_words(
    client: FlaskClient, backend: ScriptedBackend, fault: Exception, status: int, code: str
) -> None:
    backend.fault = fault
    answer = client.post("/predict", json={})
    assert error_of(answer) == (status, code, str(fault))
    assert ("Retry-After" in answer.headers) == fault.retryable
    assert metric(client, f'sam3_failures_total{{code="{code}"}}') == 1


def test_an_unknown_fault_shows_nothing_of_its_inside(
    client: FlaskClient, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.fault = ZeroDivisionError("inner workings")
    answer = client.post("/predict", json={}, headers={"X-Request-ID": "abc-1"})
    status, code, message = error_of(answer)
    assert (status, code) == (500, "internal_error")
    assert "abc-1" in message
    assert "inner workings" not in answer.get_data(as_text=True)
    assert "Traceback" not in answer.get_data(as_text=True)
    assert "inner workings" in caplog.text


def test_a_webhook_that_cannot_be_used_is_still_answered(client: FlaskClient, backend: ScriptedBackend) -> None:
    backend.fault = InvalidLabelConfig("Add an Image tag.")
    assert client.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200


class TestBasicAuth:
    @pytest.fixture
    def client(self, backend: ScriptedBackend) -> FlaskClient:
        return client_of(backend, basic_auth_user="lämpel", basic_auth_pass=SecretStr("pä:ss"))

    @pytest.mark.parametrize("path", ["/", "/ready", "/versions", "/metrics", "/nothing"])
    def test_closes_every_other_address(self, client: FlaskClient, path: str) -> None:
        answer = client.get(path)
        assert error_of(answer)[:2] == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Basic")

    @pytest.mark.parametrize("path", ["/setup", "/predict"])
    def test_closes_what_label_studio_posts_to(self, client: FlaskClient, backend: ScriptedBackend, path: str) -> None:
        assert client.post(path, json={}).status_code == 401
        assert backend.seen == []
        assert client.post(path, json={}, headers=basic("lämpel", "pä:ss")).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            basic("lämpel", "wrong"),
            basic("wrong", "pä:ss"),
            basic("", ""),
            {"Authorization": "Bearer pä:ss".encode().decode("latin-1")},
            {"Authorization": "Basic not-base64!"},
        ],
    )
    def test_refuses_other_credentials(self, client: FlaskClient, headers: dict[str, str]) -> None:
        assert client.post("/setup", json={}, headers=headers).status_code == 401

    def test_leaves_health_and_event_webhooks_open(self, client: FlaskClient) -> None:
        assert client.get("/health").status_code == 200
        assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200

    def test_asks_for_credentials_to_start_training(self, client: FlaskClient, backend: ScriptedBackend) -> None:
        assert client.post("/webhook", json={"action": "START_TRAINING"}).status_code == 401
        assert backend.seen == []
        known = basic("lämpel", "pä:ss")
        assert client.post("/webhook", json={"action": "START_TRAINING"}, headers=known).status_code == 200


def test_a_refusal_is_shown_to_the_annotator_who_waits(client: FlaskClient, backend: ScriptedBackend) -> None:
    backend.fault = InvalidLabelConfig("The labelling config has no Image tag.")
    assert client.post("/predict", json={"somebody waits": True}).json == {
        "results": [{"result": ["The labelling config has no Image tag."]}]
    }
    assert metric(client, 'sam3_failures_total{code="invalid_label_config"}') == 1


class TestBusyServer:
    def test_says_so_and_still_answers_health_and_setup(self, backend: ScriptedBackend) -> None:
        client = client_of(backend, threads=1)
        inside, may_end = threading.Event(), threading.Event()

        def wait() -> None:
            inside.set()
            assert may_end.wait(30)

        backend.while_predicting = wait
        first: list[TestResponse] = []
        thread = threading.Thread(
            target=lambda: first.append(client.application.test_client().post("/predict", json={}))
        )
        thread.start()
        assert inside.wait(30)
        assert error_of(client.post("/predict", json={}))[:2] == (503, "model_busy")
        told = client.post("/predict", json={"somebody waits": True})
        assert (told.status_code, "Try again" in told.json["results"][0]["result"][0]) == (200, True)
        assert client.get("/health").status_code == 200
        assert client.post("/setup", json={}).status_code == 200
        assert metric(client, "sam3_predictions_running") == 1
        may_end.set()
        thread.join(30)
        assert first[0].status_code == 200
        assert metric(client, "sam3_predictions_running") == 0

    def test_takes_the_next_prediction_after_one_failed(self, backend: ScriptedBackend) -> None:
        client = client_of(backend, threads=1)
        backend.fault = ZeroDivisionError()
        assert client.post("/predict", json={}).status_code == 500
        backend.fault = None
        assert client.post("/predict", json={}).status_code == 200


class TestLog:
    def test_names_the_request_in_every_line(self, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
        caplog.handler.addFilter(logs.name_request)
        with caplog.at_level(logging.INFO):
            answer = client.post("/predict", json={}, headers={"X-Request-ID": "from-the-proxy"})
        assert answer.headers["X-Request-ID"] == "from-the-proxy"
        assert {record.request_id for record in caplog.records} == {"from-the-proxy"}

    def test_gives_requests_names_and_believes_no_strange_ones(self, client: FlaskClient) -> None:
        first, second = (client.get("/health", headers={"X-Request-ID": "a b\tc"}) for _ in range(2))
        assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]
        assert "a b" not in first.headers["X-Request-ID"]

    @pytest.mark.parametrize("fault", [None, ZeroDivisionError(), InvalidLabelConfig("Add an Image tag.")])
    @pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
    def test_never_holds_tokens(
        self,
        client: FlaskClient,
        backend: ScriptedBackend,
        caplog: pytest.LogCaptureFixture,
        path: str,
        fault: Exception | None,
    ) -> None:
        backend.fault = fault
        body = {"access_token": SECRET, "params": {"login": "me", "password": SECRET}, "hostname": "http://ls"}
        with caplog.at_level(logging.DEBUG):
            client.post(path, json=body, headers=basic("me", SECRET))
            broken = json.dumps(body)[:-1].encode()
            client.post(path, data=broken, content_type="application/json", headers=basic("me", SECRET))
        assert caplog.records
        assert SECRET not in caplog.text
        assert basic("me", SECRET)["Authorization"] not in caplog.text
