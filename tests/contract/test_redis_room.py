"""What a real Redis says of its memory, and what ``sam3-backend warm`` and ``doctor`` make of it."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sam3_backend import cli
from sam3_backend.cli import doctor, warm
from sam3_backend.embeddings.embedding import Embedding
from sam3_backend.embeddings.redis import RedisTier, room_bytes
from sam3_backend.embeddings.redis_room import ask_room
from sam3_backend.errors import BackendError
from sam3_backend.label_studio import projects
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.projects import Project
from sam3_backend.settings import Settings
from tests.contract.test_embedding_store import HostTransfer, key
from tests.local_redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDE = 1024
EACH_BYTES = room_bytes(Embedding(key(), (4, 5), {"vit": np.zeros((SIDE, SIDE), np.float16)}))
CONFIG = (
    '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"><Label value="car"/></BrushLabels></View>'
)


def picture(name: str) -> Embedding:
    return Embedding(key(name), (4, 5), {"vit": np.zeros((SIDE, SIDE), np.float16)})


def store(url: str, names: list[str]) -> list[bool]:
    """Have embeddings written; which of them Redis took."""
    tier = RedisTier(url, ttl_s=60)
    taken = []
    for name in names:
        tier._takes.succeeded()  # a refusal does not end the attempts
        taken.append(tier.put(HostTransfer().to_host(picture(name))))
    return taken


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Starts a redis-server with options, and stops it in the end."""
    servers: list[Redis] = []

    def start(*options: str) -> Redis:
        servers.append(Redis(tmp_path, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def limit(server: Redis, places: float, policy: str) -> None:
    """Leave Redis memory for so many embeddings beside what it holds."""
    used_bytes = server.client.info("memory")["used_memory"]
    server.client.config_set("maxmemory-policy", policy)
    server.client.config_set("maxmemory", int(used_bytes + places * EACH_BYTES))


@pytest.mark.parametrize("places", [0.9, 4.1, 4.9])
def test_as_many_embeddings_fit_as_a_full_redis_takes(start: Callable[..., Redis], places: float) -> None:
    server = start()
    limit(server, places, "noeviction")
    fitting = ask_room(server.url, 1.0).fitting(EACH_BYTES)
    names = [f"{number}" for number in range(8)]
    assert store(server.url, names) == [number < fitting for number in range(8)]
    assert fitting in {int(places) - 1, 0}


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"])
def test_where_embeddings_make_room_no_more_are_there_in_the_end_than_fit_alone(
    start: Callable[..., Redis], policy: str
) -> None:
    server = start()
    limit(server, 6.5, policy)
    most = ask_room(server.url, 1.0).fitting_alone(EACH_BYTES)
    assert all(store(server.url, [f"{number}" for number in range(16)]))
    assert most - 1 <= server.client.dbsize() <= most < 16


class Team:
    """A project of five pictures, and somebody at a terminal who warms it, with all but Redis replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.said_before_it_began: str | None = None
        self.asked: list[str] = []
        self.is_at_a_terminal, self.says = True, "y"
        project = Project(7, "City", LabelConfig.parse(CONFIG), tasks=5)
        predictor = SimpleNamespace(encode=lambda _image: picture("blank"))
        composition = SimpleNamespace(compose=lambda *_, **__: SimpleNamespace(predictor=predictor))
        monkeypatch.setitem(sys.modules, "sam3_backend.composition", composition)
        monkeypatch.setattr(projects, "read_project", lambda *_: project)
        monkeypatch.setattr(warm, "_warm", self._begin)
        monkeypatch.setattr("builtins.input", self._answer)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: self.is_at_a_terminal))
        monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)

    def _begin(self, *_: object) -> int:
        self.said_before_it_began = self._capsys.readouterr().err
        return 0

    def _answer(self, question: str) -> str:
        self.asked.append(question)
        return self.says

    def warms(self, url: str, *options: str) -> str:
        """What is said before the first picture is looked at."""
        self._monkeypatch.setenv("REDIS_URL", url)
        assert cli.main(["warm", "--project", "7", *options]) == 0
        assert self.said_before_it_began is not None
        return self.said_before_it_began


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Team]:
    logger = logging.getLogger("sam3_backend")
    level = logger.level  # which the command changes for its own process
    yield Team(monkeypatch, capsys)
    logger.setLevel(level)


def test_nobody_is_warned_where_there_is_room(start: Callable[..., Redis], team: Team) -> None:
    server = start()
    limit(server, 6.5, "noeviction")
    assert "Redis has room for them: 0.02 of its 0.02 GB (maxmemory) are left." in team.warms(server.url)


def test_a_redis_without_a_limit_is_said_to_have_none(start: Callable[..., Redis], team: Team) -> None:
    assert "Redis has no limit of its own (maxmemory)" in team.warms(start().url)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("noeviction", "the last 3 will not be stored, but for those that are there already. Set a larger maxmemory"),
        ("allkeys-lru", "for the others it pushes out what was used longest ago, this project's own first pictures"),
        ("volatile-ttl", "for the others it pushes out what expires first, this project's own first pictures too"),
        ("allkeys-lfu", "for the others it pushes out what was used least, this project's own first pictures too"),
        ("allkeys-random", "for the others it pushes out some of what it holds, this project's own first pictures too"),
    ],
)
def test_too_little_room_is_said_with_what_will_happen_before_anything_is_asked(
    start: Callable[..., Redis], team: Team, policy: str, told: str
) -> None:
    server = start()
    limit(server, 3.5, policy)
    said = team.warms(server.url)
    assert "5 tasks. Their embeddings take up to 0.01 GB in Redis" in said
    assert "room for 2 more of 5 pictures: 0.01 of its 0.01 GB (maxmemory) are left. " in said
    assert f"Its policy is {policy}: {told}" in said
    assert team.asked == ["Go on? [y/N] "]


def test_a_full_redis_whose_old_pictures_make_room_for_all_is_said_to_do_so(
    start: Callable[..., Redis], team: Team
) -> None:
    server = start()
    limit(server, 7.5, "allkeys-lru")
    store(server.url, [f"old {number}" for number in range(5)])
    said = team.warms(server.url)
    assert "room for 1 more of 5 pictures" in said
    assert "it pushes out what was used longest ago, earlier pictures among it." in said


def test_who_does_not_go_on_fills_nothing(
    start: Callable[..., Redis], team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server, team.says = start(), "n"
    limit(server, 0.5, "noeviction")
    monkeypatch.setenv("REDIS_URL", server.url)
    assert cli.main(["warm", "--project", "7"]) == 1
    assert "room for 0 more of 5 pictures" in capsys.readouterr().err
    assert team.said_before_it_began is None


@pytest.mark.parametrize("way", ["--yes", "no terminal"])
def test_who_is_not_asked_is_warned_all_the_same(start: Callable[..., Redis], team: Team, way: str) -> None:
    server = start()
    limit(server, 3.5, "noeviction")
    team.is_at_a_terminal = way == "--yes"
    assert "the last 3 will not be stored" in team.warms(server.url, *(["--yes"] if way == "--yes" else []))
    assert team.asked == []


@pytest.mark.parametrize(
    ("options", "user", "why"),
    [
        (("--user", "sam3", "on", ">word", "~*", "+@all", "-info"), "sam3:word", "docs/operations.md"),
        (("--rename-command", "INFO", ""), "", "unknown command"),
    ],
    ids=["forbidden", "taken away"],
)
def test_where_redis_does_not_say_how_it_is_set_up_that_is_said_and_work_goes_on(
    start: Callable[..., Redis], team: Team, options: tuple[str, ...], user: str, why: str
) -> None:
    url = start(*options).url_with(user)
    said = team.warms(url)
    assert "Whether Redis has that much left is not known: it does not say." in said
    assert why in said
    assert team.asked == ["Go on? [y/N] "]
    finding = doctor._redis(Settings(redis_url=url))
    assert finding.verdict == "advice"
    assert why in finding.words


def test_managed_servers_that_refuse_config_still_say_it(start: Callable[..., Redis], team: Team) -> None:
    server = start("--user", "sam3", "on", ">word", "~*", "+@all", "-config")
    limit(server, 3.5, "noeviction")
    assert "the last 3 will not be stored" in team.warms(server.url_with("sam3:word"))


@pytest.mark.parametrize(
    ("said", "told"), [({}, "names no maxmemory"), ({"maxmemory": 10**7, "used_memory": 1}, "its maxmemory-policy")]
)
def test_servers_that_speak_as_redis_does_may_say_less(
    start: Callable[..., Redis], team: Team, monkeypatch: pytest.MonkeyPatch, said: dict[str, int], told: str
) -> None:
    monkeypatch.setattr("redis.Redis.info", lambda *_: said)
    words = team.warms(start().url)
    assert "is not known: it does not say" in words
    assert told in words


def test_a_redis_that_does_not_answer_is_found_out_before_the_model_is_loaded(
    start: Callable[..., Redis], team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start()
    server.stop()
    monkeypatch.setitem(sys.modules, "sam3_backend.composition", SimpleNamespace(compose=None))
    monkeypatch.setenv("REDIS_URL", server.url)
    assert cli.main(["warm", "--project", "7", "--yes"]) == 1
    assert capsys.readouterr().err.startswith("sam3-backend: Redis does not answer: ")
    with pytest.raises(BackendError, match="Redis does not answer"):
        doctor._redis(Settings(redis_url=server.url))


@pytest.mark.parametrize(
    ("policy", "verdict", "told"),
    [
        ("allkeys-lru", "good", "keeps up to 0.0 GiB."),
        ("noeviction", "advice", "takes no more: set its maxmemory-policy"),
    ],
)
def test_the_doctor_looks_at_limit_and_policy(
    start: Callable[..., Redis], policy: str, verdict: str, told: str
) -> None:
    server = start()
    limit(server, 3.5, policy)
    finding = doctor._redis(Settings(redis_url=server.url))
    assert finding.verdict == verdict
    assert told in finding.words
