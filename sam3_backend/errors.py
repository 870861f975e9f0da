"""Everything that can go wrong, and what the person at the other end is told.

::

    BackendError
    ├── InvalidRequest          400  the request itself cannot be answered, whatever the model does
    │   ├── InvalidLabelConfig  400  the labelling config lacks something or says something impossible
    │   └── InvalidPrompt       400  a prompt is out of range, not a number, or too long
    ├── Unfinished              503  the time Label Studio waits for a batch was over before this task's turn came
    ├── Unauthorized            401  basic auth is configured and the request does not carry it
    ├── ImageError
    │   ├── ImageForbidden      403  the picture's address is one this server must not fetch from
    │   ├── ImageUnreachable    502  the picture's host did not answer, or answered with an error
    │   ├── ImageTooLarge       413  the picture has more bytes or more pixels than the settings allow
    │   └── ImageUndecodable    422  the bytes are not a picture that can be read
    ├── ModelError
    │   ├── ModelNotReady       503  the model is still loading
    │   ├── ModelBusy           503  more requests are waiting than the settings allow
    │   ├── Superseded          503  a newer prompt took this one's place before the model came to it
    │   ├── ModelOutOfMemory    503  the device has no memory left for this request
    │   ├── ModelFailed         500  the model raised something nobody expected
    │   └── CheckpointError     500  a checkpoint cannot be found, is not one, or does not fit (start-up)
    ├── LabelStudioError        502  Label Studio's own API refused or did not answer
    ├── CacheError              500  never leaves the embedding store: logged, counted, treated as a miss
    └── SettingsError           500  start-up only; lists every bad variable at once

A message is one or two sentences, safe to show to an annotator, and says what to do next. The chained cause goes to
the log alone.
"""

from __future__ import annotations

from typing import ClassVar


class BackendError(Exception):
    """Any fault this server knows by name.

    Attributes:
        code: Stable identifier for programs, snake_case.
        http_status: Status of the HTTP answer.
        retryable: Whether the same request may succeed later without anybody changing anything.
    """

    code: ClassVar[str] = "backend_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        """What a person is told."""
        return str(self)


class InvalidRequest(BackendError):
    """The request cannot be answered, whatever the model does."""

    code = "invalid_request"
    http_status = 400


class InvalidLabelConfig(InvalidRequest):
    """The labelling config lacks something the backend needs, or says something impossible."""

    code = "invalid_label_config"


class InvalidPrompt(InvalidRequest):
    """A prompt is out of range, not a number, or too long."""

    code = "invalid_prompt"


class Unfinished(BackendError):
    """The time Label Studio waits for a batch was over before this task's turn came."""

    code = "unfinished"
    http_status = 503
    retryable = True


class Unauthorized(BackendError):
    """Basic auth is configured and the request does not carry it."""

    code = "unauthorized"
    http_status = 401


class ImageError(BackendError):
    """A picture cannot be had or cannot be read."""

    code = "image_error"
    http_status = 422


class ImageForbidden(ImageError):
    """The picture's address is one this server must not fetch from."""

    code = "image_forbidden"
    http_status = 403


class ImageUnreachable(ImageError):
    """The picture's host did not answer, or answered with an error."""

    code = "image_unreachable"
    http_status = 502
    retryable = True


class ImageTooLarge(ImageError):
    """The picture has more bytes or more pixels than the settings allow."""

    code = "image_too_large"
    http_status = 413


class ImageUndecodable(ImageError):
    """The bytes are not a picture that can be read."""

    code = "image_undecodable"


class ModelError(BackendError):
    """The model cannot answer."""

    code = "model_error"


class ModelNotReady(ModelError):
    """The model is still loading."""

    code = "model_not_ready"
    http_status = 503
    retryable = True


class ModelBusy(ModelError):
    """More requests are waiting for the model than the settings allow."""

    code = "model_busy"
    http_status = 503
    retryable = True


class Superseded(ModelError):
    """A newer prompt took this one's place before the model came to it; nobody reads this answer."""

    code = "superseded"
    http_status = 503


class ModelOutOfMemory(ModelError):
    """The device has no memory left for this request."""

    code = "model_out_of_memory"
    http_status = 503
    retryable = True


class ModelFailed(ModelError):
    """The model raised something nobody expected."""

    code = "model_failed"


class CheckpointError(ModelError):
    """A checkpoint cannot be found, is not one, or does not fit the architecture."""

    code = "checkpoint_error"


class LabelStudioError(BackendError):
    """Label Studio's own API refused a request or did not answer.

    Attributes:
        status: HTTP status of its refusal; None where it did not answer, so that nobody knows what it did.
    """

    code = "label_studio_error"
    http_status = 502
    retryable = True

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CacheError(BackendError):
    """A cache tier failed. Never leaves the embedding store."""

    code = "cache_error"
    retryable = True


class SettingsError(BackendError):
    """One or more environment variables have values that cannot be used."""

    code = "settings_error"
