"""Redis over TLS and behind passwords, with a real one: what is needed, and what happens where it is not there."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend.cli import doctor
from sam3_backend.embeddings import redis as redis_module
from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.redis import RedisTier
from sam3_backend.embeddings.redis_access import RIGHTS, TLS_WANTED, connect
from sam3_backend.embeddings.refinement_store import RefinementStore
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.errors import BackendError, SettingsError
from sam3_backend.prompts import Point, PromptSet
from sam3_backend.settings import Settings
from tests.contract.test_embedding_store import (
    HostTransfer,
    assert_a_lease_is_renewed,
    embedding,
    key,
    must_not_be_made,
    wait_for,
)
from tests.local_redis import Redis
from tests.throwaway_authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
SECRET = "hun:t/e?r#2@%"
QUOTED = "hun%3At%2Fe%3Fr%232%40%25"
WRONG = "correct-horse"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Starts a redis-server with options, and stops it in the end."""
    servers: list[Redis] = []

    def start(*options: str, **how: object) -> Redis:
        servers.append(Redis(tmp_path, *options, **how))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def worker(url: str) -> EmbeddingStore:
    """What one worker process holds that reaches Redis by this address."""
    return EmbeddingStore(MemoryTier(10**6), RedisTier(url, ttl_s=60, timeout_s=2.0), HostTransfer())


def assert_shared_without_a_fault(url: str) -> None:
    """What one worker makes another one fetches."""
    first, second = worker(url), worker(url)
    first.get_or_make(key(), embedding)
    first.flush()
    second.get_or_make(key(), must_not_be_made)
    assert (first.statistics().faults, second.statistics().faults, second.statistics().fetched) == (0, 0, 1)


def said_while_it_goes_on_without(url: str, caplog: pytest.LogCaptureFixture) -> str:
    """The one line that is logged while embeddings are made as if there were no Redis."""
    with caplog.at_level(logging.DEBUG):
        store = worker(url)
        for name in "abc":
            assert store.get_or_make(key(name), lambda name=name: embedding(name)).key == key(name)
        store.flush()
    assert store.statistics().made == 3
    assert store.statistics().faults >= 1
    lines = [each.getMessage() for each in caplog.records if each.name.startswith("sam3_backend")]
    assert len(lines) == 1
    assert "going on without it" in lines[0]
    for secret in (SECRET, QUOTED, WRONG):
        assert secret not in caplog.text
    return lines[0]


def test_embeddings_are_shared_over_tls_behind_a_password(started: Callable[..., Redis], authority: Authority) -> None:
    server = started(password=SECRET, authority=authority)
    assert server.url.startswith(f"rediss://:{QUOTED}@127.0.0.1")
    assert_shared_without_a_fault(server.url)


def test_redis_may_ask_for_a_certificate_of_ours(
    started: Callable[..., Redis],
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, private = authority.issue("backend.example")
    ours = {"ssl_certfile": str(certificate), "ssl_keyfile": str(private)}
    server = started(authority=authority)
    server.client.config_set("tls-auth-clients", "yes")
    assert_shared_without_a_fault(server.url_with(**ours))
    assert "Redis" in said_while_it_goes_on_without(server.url, caplog)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_that_proves_nothing_is_refused_and_nobody_is_kept_from_working(
    started: Callable[..., Redis], authority: Authority, tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = started(password=SECRET, authority=authority)
    url = server.url.replace("127.0.0.1", host)
    if host == "127.0.0.1":  # the right host, vouched for by somebody unknown
        url = server.url_with(f":{QUOTED}", ssl_ca_certs=str(Authority(tmp_path / "another").certificate))
    assert "?ssl_ca_certs=/path/ca.crt" in said_while_it_goes_on_without(url, caplog)


def test_an_address_without_tls_for_a_port_with_it_is_a_fault_and_not_an_error(
    started: Callable[..., Redis], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    port = started(authority=authority).port
    assert TLS_WANTED in said_while_it_goes_on_without(f"redis://127.0.0.1:{port}/0", caplog)


def test_an_address_with_tls_for_a_port_without_it_is_a_fault_and_not_an_error(
    started: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    url = started().url.replace("redis://", "rediss://")
    assert "Redis does not answer" in said_while_it_goes_on_without(url, caplog)


@pytest.mark.parametrize(
    ("credentials", "advice"),
    [
        ("", "REDIS_URL needs a password"),
        (f":{WRONG}", "user or password that Redis does not know"),
        (f"somebody:{QUOTED}", "user or password that Redis does not know"),
    ],
    ids=["none", "wrong password", "wrong user"],
)
def test_without_the_right_password_requests_go_on_and_one_line_says_so(
    started: Callable[..., Redis], credentials: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = started(password=SECRET)
    assert advice in said_while_it_goes_on_without(server.url_with(credentials), caplog)


def test_a_password_that_changes_while_the_server_runs_takes_nobody_down(
    started: Callable[..., Redis], caplog: pytest.LogCaptureFixture
) -> None:
    server = started(password=SECRET)
    store, admin = worker(server.url), server.client
    store.get_or_make(key("before"), lambda: embedding("before"))
    store.flush()
    admin.config_set("requirepass", "another")
    admin.client_kill_filter(_type="normal", skipme=True)
    for name in "ab":
        store.get_or_make(key(name), lambda name=name: embedding(name))
    assert store.statistics().made == 3
    assert SECRET not in caplog.text


def documented_rights() -> list[str]:
    """The rights of a Redis user as docs/operations.md lists them, without its name and password."""
    found = re.search(r"^ACL SETUSER sam3 on >\S+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1).split()


def test_the_documented_rights_are_enough(started: Callable[..., Redis], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LEASE_S", 3.0)
    server = started("--user", "sam3", "on", f">{SECRET}", *documented_rights())
    url = server.url_with(f"sam3:{QUOTED}")
    assert_shared_without_a_fault(url)
    assert_a_lease_is_renewed(RedisTier(url, ttl_s=60), server)
    refinements = RefinementStore(shared=RedisTier(url, ttl_s=60))
    refinements.put(key(), PromptSet(points=(Point(0.5, 0.5),)), np.zeros((2, 2), dtype=np.float32), None)
    refinements.flush()
    assert server.client.keys("*refinement*") != []
    assert doctor._redis(Settings(redis_url=url)).words.startswith("answers, without a limit")
    assert server.client.acl_log() == []
    assert server.client.keys("*lease*") == []


@pytest.mark.parametrize("right", [each for each in documented_rights() if each.startswith("+")])
def test_every_documented_right_is_needed(
    started: Callable[..., Redis], right: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "LEASE_S", 1.0)
    fewer = [each for each in documented_rights() if each != right]
    url = started("--user", "sam3", "on", f">{SECRET}", *fewer).url_with(f"sam3:{QUOTED}")
    tier = RedisTier(url.replace("/0", "/1"), ttl_s=60, timeout_s=2.0)
    lease = tier.try_lease(key())
    assert lease is not None
    tier.put(HostTransfer().to_host(embedding()))
    tier.await_other(key())
    if right == "+pexpire":  # which renews a lease
        wait_for(lambda: RIGHTS in caplog.text)
    lease.release()
    said = doctor._redis(Settings(redis_url=url)).words if right in {"+ping", "+info"} else caplog.text
    assert RIGHTS in said


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@localhost:6379/0",
        "redis://:hun/ter@localhost/0",
        "redis://:12/3hunter@localhost/0",
        "redis://user:12?hunter@localhost/0",
        "redis://:12#hunter@localhost/0",
        "redis://:hunter@[::1/0",
        "redis://:hunter@local..host/0",
        "redis://:hunter@localhost/0?colour=red",
        "redis://:hunter@localhost/0?ssl_ca_certs=/etc/ca.crt",
        "redis://:hunter@localhost/0?socket_timeout=soon",
        "rediss://:hunter@localhost/0?ssl_cert_reqs=maybe",
        "rediss://:hunter@localhost/0?ssl_ca_certs=/nowhere/ca.crt",
    ],
)
def test_an_address_that_can_never_work_stops_the_start_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL cannot be used") as told:
        connect(url, timeout_s=1.0)
    for part in (SECRET, "hunter", "hun", "3hunter"):
        assert part not in told.value.message
        assert part not in repr(told.value.__cause__)


def test_the_doctor_says_what_is_wrong_with_a_password_and_never_the_password(started: Callable[..., Redis]) -> None:
    server = started(password=SECRET)
    with pytest.raises(BackendError, match="user or password that Redis does not know") as told:
        doctor._redis(Settings(redis_url=server.url_with(f":{WRONG}")))
    assert WRONG not in told.value.message
    assert doctor._redis(Settings(redis_url=server.url)).verdict == "advice"  # there, and without a limit
