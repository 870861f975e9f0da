"""The only reader of the environment.

Every variable the server understands, its default, and what it means. A bad value stops the start, and the message
names every bad value at once.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sam3_backend.errors import SettingsError


def let_waiting_threads_sleep() -> None:
    """Say how OpenMP threads wait, unless the environment says it; counts for what is loaded afterwards: torch.

    By default they spin for long, which takes the time that the work needs wherever anything else runs beside the
    model, request threads included: 130 pictures took 323 s on two busy cores, and 9 s with threads that sleep. But
    threads that sleep at once are woken for each of a small network's hundreds of operations: a click on the demo
    checkpoint took 11 to 15 ms over HTTP instead of 7 to 11. Some microseconds of spinning cost neither.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    if sys.platform == "linux":  # torch brings GNU's OpenMP: how long to spin, also with more threads than processors
        os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


class Settings(BaseSettings):
    """The server's settings; each field is read from the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # a secret may be among the bad values
    )

    host: str = Field("127.0.0.1", description="Address to listen on. 0.0.0.0 for every interface.")
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on.")
    workers: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        1, description="Worker processes; each holds a model of its own. auto: one on each GPU."
    )
    threads: int = Field(
        16, ge=1, le=256, description="Predictions a worker takes on at once; more are answered 'busy' (503)."
    )
    request_max_bytes: int = Field(
        128 * 1024**2, ge=1024, description="Largest request body; Label Studio sends every mask of a task along."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged.")
    predict_deadline_s: float = Field(
        90.0, gt=0, description="Seconds after which a batch is answered with what is done; Label Studio waits for 100."
    )

    basic_auth_user: str | None = Field(None, description="User name that Label Studio must send.")
    basic_auth_pass: SecretStr | None = Field(None, validate_default=True, description="Its password.")

    label_studio_url: str | None = Field(None, description="Where Label Studio answers, as seen from this server.")
    label_studio_api_key: SecretStr | None = Field(None, description="Legacy token or personal access token.")

    model_checkpoint: str = Field("demo", description="Hub id, hub id@revision, directory, sam3.pt file, or 'demo'.")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, cuda:N or mps.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float16 on CUDA, bfloat16 on CPUs that compute in it, else float32."
    )
    hf_token: SecretStr | None = Field(None, description="Hugging Face token with access to the gated checkpoint.")
    hf_hub_offline: bool = Field(default=False, description="Never ask the hub; use files already here.")

    embedding_memory_bytes: int = Field(
        2 * 1024**3, ge=0, description="Most bytes of embeddings a worker keeps in its memory."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis that all workers share, redis://[:password@]host:port/db, or rediss:// for TLS."
    )
    redis_timeout_s: float = Field(1.0, gt=0, le=30, description="Longest wait for Redis before going on without it.")
    embedding_ttl_s: int = Field(
        7 * 24 * 3600, ge=1, description="Seconds an embedding stays in Redis after it was written."
    )
    warm_ahead: int = Field(
        2, ge=0, le=50, description="Pictures of next tasks that are looked at while the device is idle; 0 for none."
    )

    image_timeout_s: float = Field(8.0, gt=0, le=100, description="Longest wait for a picture's host to say anything.")
    image_download_timeout_s: float = Field(30.0, gt=0, le=100, description="Longest download of one picture in all.")
    image_max_bytes: int = Field(64 * 1024**2, ge=1024, description="Largest picture file that is fetched.")
    image_max_pixels: int = Field(100_000_000, ge=1, description="Largest picture, width times height.")
    image_allow_private_hosts: bool = Field(
        default=False, description="Fetch pictures of third parties from loopback and private addresses too."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _host_alone(cls, value: str) -> str:
        try:
            return str(ipaddress.IPv6Address(value)) if ":" in value else value
        except ValueError as fault:
            raise ValueError("must be a name or an address alone, without port or brackets, such as ::1") from fault

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("label_studio_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        parts = urlsplit(value)
        if not parts.hostname or parts.port == 0:  # a port that is no number is a ValueError here
            raise ValueError("must name a host, for example http://label-studio:8080")
        return value.rstrip("/")

    @field_validator("basic_auth_pass")
    @classmethod
    def _whole_credentials(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("basic_auth_user") is None):
            raise ValueError("must be set together with BASIC_AUTH_USER, or neither of them")
        return value

    @property
    def own_url(self) -> str:
        """Where this server answers on this machine; where it listens on every interface, its loopback address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @classmethod
    def from_environment(cls, **overrides: object) -> Settings:
        """The settings of this process.

        Args:
            overrides: Values by field name that count more than the environment's, as a command line gives them.

        Raises:
            SettingsError: Some variables have values that cannot be used; the message lists them all.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]  # this is where they are checked
        except ValidationError as fault:
            faults: dict[str, list[str]] = {}
            for each in fault.errors():
                # A variable that may be of two kinds fails twice; it is one variable all the same.
                name = str(each["loc"][0]).upper()
                faults.setdefault(name, []).append(each["msg"].removeprefix("Value error, "))
            lines = [f"{name}: {', or: '.join(messages)}" for name, messages in faults.items()]
            raise SettingsError("These settings cannot be used:\n  " + "\n  ".join(lines)) from fault
