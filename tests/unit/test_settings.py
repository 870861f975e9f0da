"""The environment and nothing else decides; bad values are all told at once."""

from __future__ import annotations

import os

import pytest

from sam3_backend.errors import SettingsError
from sam3_backend.settings import Settings, let_waiting_threads_sleep


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_an_empty_environment_serves_the_demo_on_loopback() -> None:
    settings = Settings.from_environment()
    assert (settings.host, settings.port, settings.model_checkpoint) == ("127.0.0.1", 9090, "demo")
    assert settings.basic_auth_user is None
    assert settings.label_studio_url is None


def test_empty_variables_count_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "BASIC_AUTH_USER", "BASIC_AUTH_PASS", "LABEL_STUDIO_URL", "REDIS_URL", "HF_TOKEN"):
        monkeypatch.setenv(name, "")
    assert Settings.from_environment() == Settings()


def test_overrides_count_more_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cuda:1")
    monkeypatch.setenv("DTYPE", "float16")
    settings = Settings.from_environment(device="cpu")
    assert (settings.device, settings.dtype) == ("cpu", "float16")


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "PORT": "99999",
        "WORKERS": "0",
        "THREADS": "many",
        "LOG_LEVEL": "LOUD",
        "DTYPE": "int4",
        "DEVICE": "tpu",
        "LABEL_STUDIO_URL": "localhost:8080",
        "REDIS_URL": "localhost:6379",
        "BASIC_AUTH_USER": "only-half",
        "HF_HUB_OFFLINE": "perhaps",
    }
    for name, value in bad.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as told:
        Settings.from_environment()
    named = {line.split(":")[0].strip() for line in told.value.message.splitlines()[1:]}
    assert named == (bad.keys() - {"BASIC_AUTH_USER"}) | {"BASIC_AUTH_PASS"}


@pytest.mark.parametrize(
    "url", ["http://", "http:///studio", "http://studio:80a", "http://studio:99999", "http://[::1"]
)
def test_an_address_of_label_studio_that_leads_nowhere_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL"):
        Settings.from_environment()


def test_an_address_of_label_studio_may_have_a_port_and_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://[::1]:8080/studio/")
    assert Settings.from_environment().label_studio_url == "http://[::1]:8080/studio"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9090"),
        ("0.0.0.0", "http://127.0.0.1:9090"),  # noqa: S104
        ("annotator", "http://annotator:9090"),
        ("::1", "http://[::1]:9090"),
        ("::", "http://[::1]:9090"),
    ],
)
def test_the_server_knows_where_it_answers_on_this_machine(host: str, url: str) -> None:
    assert Settings(host=host).own_url == url


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1:9090", "http://annotator"])
def test_a_host_is_named_without_port_brackets_and_scheme(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HOST", host)
    with pytest.raises(SettingsError, match="HOST: must be a name or an address alone"):
        Settings.from_environment()


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "BASIC_AUTH_PASS": "hunter2",
        "LABEL_STUDIO_API_KEY": "hunter2",
        "HF_TOKEN": "hunter2",
        "REDIS_URL": "redis://:hunter2@localhost/0",
    }
    monkeypatch.setenv("BASIC_AUTH_USER", "me")
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert "hunter2" not in repr(Settings.from_environment())
    monkeypatch.setenv("REDIS_URL", "hunter2")
    with pytest.raises(SettingsError) as told:
        Settings.from_environment()
    assert "hunter2" not in told.value.message
    assert "hunter2" not in str(told.value.__cause__)


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
def test_log_levels_are_read_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)
    assert Settings.from_environment().log_level == level.upper()


def test_a_trailing_slash_of_label_studios_address_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "https://studio.example.com/base/")
    assert Settings.from_environment().label_studio_url == "https://studio.example.com/base"


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_waiting_threads_soon_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("OMP_WAIT_POLICY", "to be put back")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "to be put back")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    let_waiting_threads_sleep()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("ACTIVE", "3000")


def test_threads_wait_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "GOMP_SPINCOUNT" not in os.environ
