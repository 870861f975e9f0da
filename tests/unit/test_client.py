"""Where Label Studio is and what opens it: settings, introductions, tokens of both kinds, every kind of address."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from sam3_backend.errors import BackendError, ImageForbidden, ImageUnreachable, InvalidRequest, LabelStudioError
from sam3_backend.images import PictureLoader
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.settings import Settings
from tests.local_http import Answer, LocalServer, content, in_turn, redirect, serve, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

PROJECT = "16.1795176323"
LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**payload: object) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, payload)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PAT = jwt(token_type="refresh", exp=8_000_000_000, iat=1)


def access_tokens(life_s: float = 300) -> Answer:
    """Gives out a new access token at every request."""
    given = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal given
        given += 1
        token = jwt(token_type="access", iat=1000, exp=1000 + life_s, jti=given)
        content(json.dumps({"access": token}).encode(), "application/json")(handler)

    return answer


def picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def studio() -> Iterator[LocalServer]:
    with serve() as server:
        server.routes["/data/upload/1/a.png"] = content(picture())
        yield server


@pytest.fixture
def loader() -> Iterator[PictureLoader]:
    loader = PictureLoader(timeout_s=2)
    yield loader
    loader.close()


def introduced(hostname: str = "http://ls:8080", token: str = LEGACY, **settings: str) -> LabelStudioAccess:
    access = LabelStudioAccess(**settings)
    access.learn(PROJECT, hostname, token)
    return access


class TestAddresses:
    @pytest.mark.parametrize(
        ("uri", "url"),
        [
            ("/data/upload/16/3f-a%20b.png", "http://ls:8080/data/upload/16/3f-a%20b.png"),
            ("/data/upload/16/3f-a b.png", "http://ls:8080/data/upload/16/3f-a%20b.png"),
            ("/data/upload/16/50%25.png", "http://ls:8080/data/upload/16/50%25.png"),
            ("/data/upload/16/ä.png", "http://ls:8080/data/upload/16/%C3%A4.png"),
            ("/data/local-files/?d=fix/a%20b.png", "http://ls:8080/data/local-files/?d=fix/a%20b.png"),
            ("/data/local-files/?d=fix/a%26b%2Bc.png", "http://ls:8080/data/local-files/?d=fix/a%26b%2Bc.png"),
            ("http://ls:8080/data/local-files/?d=a%20b.png", "http://ls:8080/data/local-files/?d=a%20b.png"),
            ("HTTP://LS:8080/data/upload/1/a.png", "http://ls:8080/data/upload/1/a.png"),
            ("/tasks/5/resolve/?fileuri=czM6Ly9i", "http://ls:8080/tasks/5/resolve/?fileuri=czM6Ly9i"),
            ("upload/1/a.png", "http://ls:8080/data/upload/1/a.png"),
            ("/upload/1/a.png", "http://ls:8080/data/upload/1/a.png"),
            ("data/upload/1/a.png", "http://ls:8080/data/upload/1/a.png"),
            ("  /data/upload/1/a.png\n", "http://ls:8080/data/upload/1/a.png"),
        ],
    )
    def test_label_studios_own_addresses_are_trusted(self, uri: str, url: str) -> None:
        location = introduced().locate(uri, project=PROJECT, task_id=7)
        assert (location.url, location.is_trusted, location.origin) == (url, True, "http://ls:8080")
        assert location.authorization is not None
        assert location.authorization() == f"Token {LEGACY}"

    @pytest.mark.parametrize(
        "uri", ["s3://bucket/a/key one.png", "gs://b/ä?x#y.png", "azure-blob://c/a.png", "S3://b/a"]
    )
    def test_cloud_storage_goes_through_label_studio(self, uri: str) -> None:
        location = introduced().locate(uri, project=PROJECT, task_id=166)
        parts = urlsplit(location.url)
        assert (parts.netloc, parts.path) == ("ls:8080", "/tasks/166/presign/")
        assert base64.urlsafe_b64decode(parse_qs(parts.query)["fileuri"][0]).decode() == uri
        assert location.is_trusted
        assert location.name == uri.partition("?")[0]

    def test_cloud_storage_needs_a_task(self) -> None:
        with pytest.raises(InvalidRequest, match="task's id"):
            introduced().locate("s3://bucket/a.png", project=PROJECT, task_id=None)

    @pytest.mark.parametrize(
        "uri",
        [
            "https://example.com/pic.jpg?sig=1",
            "http://ls:9999/data/upload/1/a.png",
            "https://ls:8080/data/upload/1/a.png",
            "http://ls:8080@evil/data/upload/1/a.png",
            "http://ls:8080/wiki/a.png",
            "data:image/png;base64,AAAA",
        ],
    )
    def test_everything_else_is_a_stranger(self, uri: str) -> None:
        location = introduced().locate(uri, project=PROJECT, task_id=7)
        assert (location.url, location.is_trusted, location.authorization) == (uri, False, None)

    @pytest.mark.parametrize("uri", ["ftp://host/a.png", "file:///etc/passwd", "C:\\pictures\\a.png", "javascript:1"])
    def test_other_schemes_are_refused(self, uri: str) -> None:
        with pytest.raises(ImageForbidden, match="is not fetched"):
            introduced().locate(uri, project=PROJECT, task_id=7)

    @pytest.mark.parametrize("uri", ["", "  ", "/", "//host/a.png", "http://host:port/a.png"])
    def test_no_address_at_all_is_named_as_such(self, uri: str) -> None:
        with pytest.raises(InvalidRequest):
            introduced().locate(uri, project=PROJECT, task_id=7)

    @pytest.mark.parametrize(
        ("uri", "url"),
        [
            ("/data/upload/1/a.png", "http://host/ls/data/upload/1/a.png"),
            ("/ls/data/upload/1/a.png", "http://host/ls/data/upload/1/a.png"),
            ("http://host/ls/data/local-files/?d=a%20b", "http://host/ls/data/local-files/?d=a%20b"),
            ("s3://b/a", "http://host/ls/tasks/7/presign/?fileuri=czM6Ly9iL2E="),
        ],
    )
    def test_label_studio_may_live_below_a_path(self, uri: str, url: str) -> None:
        assert introduced("http://host/ls/").locate(uri, project=PROJECT, task_id=7).url == url

    def test_neighbour_of_a_label_studio_below_a_path_is_a_stranger(self) -> None:
        location = introduced("http://host/ls").locate("http://host/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert not location.is_trusted


class TestKnowledge:
    @pytest.mark.parametrize("uri", ["/data/upload/1/a.png", "s3://bucket/a.png"])
    def test_unknown_label_studio_says_what_to_set(self, uri: str) -> None:
        with pytest.raises(InvalidRequest, match=r"reload the page.* set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"):
            LabelStudioAccess().locate(uri, project=PROJECT, task_id=7)

    def test_a_command_is_told_what_to_set_and_of_no_page(self) -> None:
        with pytest.raises(InvalidRequest, match=r"cannot be asked: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"):
            LabelStudioAccess().api(None)

    @pytest.mark.parametrize("project", [None, "17.1"])
    def test_introduction_serves_its_own_project_alone(self, project: str | None) -> None:
        with pytest.raises(InvalidRequest):
            introduced().locate("/data/upload/1/a.png", project=project, task_id=7)

    @pytest.mark.parametrize(
        ("hostname", "origin"),
        [
            ("http://ls:8080/", "http://ls:8080"),
            ("ls.example.com", "http://ls.example.com"),
            ("localhost:8080", "http://localhost:8080"),
            (" https://ls/x/ ", "https://ls/x"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://u:p@ls/?a#b", "http://ls"),
        ],
    )
    def test_hostnames_are_taken_as_people_write_them(self, hostname: str, origin: str) -> None:
        location = introduced(hostname).locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert location.origin == origin

    @pytest.mark.parametrize("hostname", ["", "/ls", "ftp://ls", "http://", "http://host:port"])
    def test_impossible_hostname_is_as_good_as_none(self, hostname: str) -> None:
        with pytest.raises(InvalidRequest, match="unknown here"):
            introduced(hostname).locate("/data/upload/1/a.png", project=PROJECT, task_id=7)

    def test_two_label_studios_do_not_share_tokens(self) -> None:
        access = introduced("http://one", "token-one")
        access.learn("2.2", "http://two", "token-two")
        one = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        two = access.locate("/data/upload/1/a.png", project="2.2", task_id=7)
        assert one.authorization is not None
        assert two.authorization is not None
        assert (one.origin, one.authorization()) == ("http://one", "Token token-one")
        assert (two.origin, two.authorization()) == ("http://two", "Token token-two")
        stranger = access.locate("http://two/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert (stranger.is_trusted, stranger.authorization) == (False, None)

    def test_latest_introduction_counts(self) -> None:
        access = introduced(token="old")
        access.learn(PROJECT, "http://new", "new")
        location = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert location.authorization is not None
        assert (location.origin, location.authorization()) == ("http://new", "Token new")

    def test_url_of_the_settings_wins(self) -> None:
        access = introduced("https://public.example", url="http://inside:8080/", api_key="key")
        location = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert location.authorization is not None
        assert (location.origin, location.authorization()) == ("http://inside:8080", "Token key")

    def test_public_address_leads_to_the_one_of_the_settings(self) -> None:
        access = introduced("https://public.example/ls", url="http://inside:8080", api_key="key")
        uri = "https://public.example/ls/data/local-files/?d=a%20b.png"
        location = access.locate(uri, project=PROJECT, task_id=7)
        assert location.url == "http://inside:8080/data/local-files/?d=a%20b.png"

    def test_url_of_the_settings_needs_no_introduction(self) -> None:
        settings = Settings(label_studio_url="http://inside:8080", label_studio_api_key="key")
        location = LabelStudioAccess.from_settings(settings).locate("/data/upload/1/a.png", project=None, task_id=None)
        assert location.authorization is not None
        assert location.authorization() == "Token key"

    def test_token_of_the_introduction_serves_where_the_settings_name_a_url_alone(self) -> None:
        access = introduced("https://public.example", url="http://inside:8080")
        location = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert location.authorization is not None
        assert location.authorization() == f"Token {LEGACY}"

    def test_key_without_a_url_belongs_to_the_first_label_studio(self, caplog: pytest.LogCaptureFixture) -> None:
        access = introduced("http://one", "token-one", api_key="key")
        access.learn("2.2", "http://two", "token-two")
        one = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        two = access.locate("/data/upload/1/a.png", project="2.2", task_id=7)
        assert one.authorization is not None
        assert two.authorization is not None
        assert (one.authorization(), two.authorization()) == ("Token key", "Token token-two")
        assert "http://one alone" in caplog.text
        assert "Token key" not in caplog.text

    def test_no_token_at_all_still_asks(self) -> None:
        location = introduced(token="").locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert location.is_trusted
        assert location.authorization is None

    def test_introductions_are_bounded(self) -> None:
        access = introduced()
        for number in range(5000):
            access.learn(f"{number}.1", "http://flood", "x")
        with pytest.raises(InvalidRequest):
            access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert access.locate("/data/upload/1/a.png", project="4999.1", task_id=7).origin == "http://flood"


class TestTokens:
    def test_legacy_token_opens_an_upload(self, studio: LocalServer, loader: PictureLoader) -> None:
        access = introduced(studio.base)
        loader.download(access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7))
        assert studio.seen[0].headers["authorization"] == f"Token {LEGACY}"

    def test_personal_access_token_is_exchanged_once(self, studio: LocalServer, loader: PictureLoader) -> None:
        studio.routes["/api/token/refresh"] = access_tokens()
        access = LabelStudioAccess(url=studio.base, api_key=PAT)

        def fetch(_: int) -> int:
            return (
                loader.download(access.locate("/data/upload/1/a.png", project=None, task_id=7)).file.decode().width_px
            )

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(fetch, range(16))) == [3] * 16
        exchanges = [request for request in studio.seen if request.path == "/api/token/refresh"]
        assert [json.loads(request.body) for request in exchanges] == [{"refresh": PAT}]
        headers = {request.headers["authorization"] for request in studio.seen if request not in exchanges}
        assert [header.partition(" ")[0] for header in headers] == ["Bearer"]
        assert PAT not in str(headers)

    def test_access_token_is_renewed_before_it_expires(
        self, studio: LocalServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        studio.routes["/api/token/refresh"] = access_tokens(300)
        authorization = (
            LabelStudioAccess(url=studio.base, api_key=PAT).locate("/a", project=None, task_id=7).authorization
        )
        assert authorization is not None
        now_s = time.monotonic()
        first = authorization()
        monkeypatch.setattr(time, "monotonic", lambda: now_s + 250)
        assert authorization() == first
        monkeypatch.setattr(time, "monotonic", lambda: now_s + 280)
        assert authorization() != first

    def test_refused_access_token_is_exchanged_again(self, studio: LocalServer, loader: PictureLoader) -> None:
        studio.routes["/api/token/refresh"] = access_tokens()
        studio.routes["/data/upload/1/a.png"] = in_turn(status(401), content(picture()))
        access = LabelStudioAccess(url=studio.base, api_key=PAT)
        assert (
            loader.download(access.locate("/data/upload/1/a.png", project=None, task_id=7)).file.decode().width_px == 3
        )
        assert [request.method for request in studio.seen] == ["POST", "GET", "POST", "GET"]

    def test_pasted_access_token_is_sent_as_it_is(self) -> None:
        token = jwt(token_type="access")
        location = LabelStudioAccess(url="http://ls", api_key=token).locate("/a.png", project=None, task_id=7)
        assert location.authorization is not None
        assert location.authorization() == f"Bearer {token}"

    @pytest.mark.parametrize("token", ["a.b.c", "a.!!.c", "a.bnVsbA.c", "not-a-jwt"])
    def test_what_only_looks_like_a_jwt_is_a_legacy_token(self, token: str) -> None:
        location = LabelStudioAccess(url="http://ls", api_key=token).locate("/a.png", project=None, task_id=7)
        assert location.authorization is not None
        assert location.authorization() == f"Token {token}"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (status(401), r"does not accept the personal access token in LABEL_STUDIO_API_KEY \(HTTP 401\)"),
            (status(404), "Is LABEL_STUDIO_URL the address of a Label Studio"),
            (status(500), "answered HTTP 500"),
            (
                redirect("https://elsewhere/api/token/refresh?x=1", 301),
                "points to https://elsewhere/api/token/refresh,",
            ),
            (content(b"<html>", "text/html"), "holds no access token"),
            (content(b'{"detail": 1}', "application/json"), "holds no access token"),
            (content(b"[]", "application/json"), "holds no access token"),
        ],
    )
    def test_failed_exchange_says_what_to_do(
        self, studio: LocalServer, loader: PictureLoader, answer: Answer, words: str
    ) -> None:
        studio.routes["/api/token/refresh"] = answer
        access = LabelStudioAccess(url=studio.base, api_key=PAT)
        with pytest.raises(LabelStudioError, match=words) as caught:
            loader.download(access.locate("/data/upload/1/a.png", project=None, task_id=7))
        assert PAT not in str(caught.value)

    def test_unreachable_label_studio_is_one_error(self, loader: PictureLoader) -> None:
        access = LabelStudioAccess(url="http://127.0.0.1:1", api_key=PAT)
        with pytest.raises(LabelStudioError, match="does not accept connections"):
            loader.download(access.locate("/data/upload/1/a.png", project=None, task_id=7))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, "the token that Label Studio sent at /setup.*legacy tokens may be switched off"),
            ({"api_key": LEGACY}, "It is LABEL_STUDIO_API_KEY"),
        ],
    )
    def test_refused_token_is_named_by_its_source(
        self, studio: LocalServer, loader: PictureLoader, settings: dict[str, str], words: str
    ) -> None:
        studio.routes["/data/upload/1/a.png"] = status(401)
        access = introduced(studio.base, **settings)
        with pytest.raises(ImageForbidden, match=words) as caught:
            loader.download(access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7))
        assert LEGACY not in str(caught.value)

    @pytest.mark.parametrize("token", [LEGACY, PAT])
    def test_nothing_shows_a_token(self, token: str) -> None:
        access = introduced(token=token)
        location = access.locate("/data/upload/1/a.png", project=PROJECT, task_id=7)
        assert token not in repr((access, vars(access), location, location.authorization))

    def test_presigned_address_gets_no_token(self, studio: LocalServer) -> None:
        loader = PictureLoader(allow_private_hosts=True)
        with serve() as bucket:
            bucket.routes["/bucket/a.png"] = content(picture())
            studio.routes["/tasks/7/presign/"] = redirect(f"{bucket.base}/bucket/a.png?X-Amz-Signature=s")
            loader.download(introduced(studio.base).locate("s3://bucket/a.png", project=PROJECT, task_id=7))
            assert "authorization" not in bucket.seen[0].headers
        loader.close()

    def test_missing_object_is_named_as_the_task_names_it(self, studio: LocalServer, loader: PictureLoader) -> None:
        location = introduced(studio.base).locate("s3://bucket/a.png", project=PROJECT, task_id=7)
        with pytest.raises(ImageUnreachable, match=r"no picture for s3://bucket/a\.png .*storage"):
            loader.download(location)

    def test_every_error_is_one_the_server_knows(self) -> None:
        with pytest.raises(BackendError):
            LabelStudioAccess().locate("\0", project=None, task_id=None)
