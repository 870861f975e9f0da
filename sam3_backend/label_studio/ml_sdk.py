"""The same backend as a model class of Label Studio's ``label-studio-ml`` SDK.

For people who run their backends with ``label-studio-ml start``. That SDK builds an object of the class for every
request; the model is loaded once per process all the same. It needs the SDK's 2.x, which is no package on PyPI:
``pip install '.[label-studio-ml]'`` in a clone. Nothing else in this project imports this module.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from flask import has_request_context, request
from label_studio_ml.model import LabelStudioMLBase

from sam3_backend.composition import build_backend
from sam3_backend.errors import BackendError
from sam3_backend.label_studio.regions import failed_version, prediction
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sam3_backend.label_studio.backend import LabelStudioBackend

_lock = threading.Lock()
_backends: list[LabelStudioBackend] = []


def shared_backend() -> LabelStudioBackend:
    """This process's backend; the first call loads the model and takes as long as that takes.

    Raises:
        SettingsError: Environment variables have values that cannot be used.
        CheckpointError: The checkpoint cannot be found or used.
    """
    with _lock:
        if not _backends:
            _backends.append(build_backend(Settings.from_environment()))
        return _backends[0]


class Sam3Model(LabelStudioMLBase):  # type: ignore[misc]  # the SDK is untyped
    """SAM 3 for ``label-studio-ml``: text, keypoints and rectangles in, brush masks out."""

    def setup(self) -> None:
        """Called by the SDK for every request; only those to ``/setup`` have something to say.

        Raises:
            InvalidLabelConfig: The labelling config cannot be used. The SDK answers 500 with this message.
        """
        payload = _payload()
        if payload is not None and request.path == "/setup":
            # The SDK passes on neither Label Studio's address nor its token, which find the pictures.
            self.set("model_version", shared_backend().setup(payload)["model_version"])

    def set_extra_params(self, extra_params: object) -> None:
        """Nothing is read from them, so that any kind is accepted; the SDK fails on all but text."""

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **_params: object
    ) -> list[dict[str, Any]]:
        """One prediction per task, in order, whatever happens: the SDK would answer a fault with a traceback."""
        backend = shared_backend()
        # The project's full key and the config come from the request: the SDK's store knows the project's number
        # alone, and may have another project's under it.
        sent = _payload() or {"project": self.project_id, "label_config": self.label_config}
        try:
            results = backend.predict({**sent, "tasks": list(tasks), "params": {"context": context}})["results"]
        except BackendError as fault:
            version = failed_version(backend.base_version, fault.code, fault.message)
            return [prediction([], version) for _ in tasks]
        return list(results)

    def fit(self, event: str, data: Mapping[str, Any], **_params: object) -> dict[str, Any]:
        """Nothing is trained here."""
        return shared_backend().webhook({**data, "action": event})


def _payload() -> dict[str, Any] | None:
    """The body of the request being answered, or None outside of one."""
    body = request.get_json(silent=True) if has_request_context() else None
    return body if isinstance(body, dict) else None
