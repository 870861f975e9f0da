"""One worker's application: the model loaded and warm, the routes on top, everything counted.

Runs in a worker process, before its port listens. Does not know gunicorn.
"""

from __future__ import annotations

import gc
import logging
import time
from typing import TYPE_CHECKING, Any

import sam3_backend
from sam3_backend.composition import Parts, compose, connect
from sam3_backend.model.scheduler import Terms
from sam3_backend.server.app import create_app
from sam3_backend.server.metrics import Metrics

if TYPE_CHECKING:
    from flask import Flask

    from sam3_backend.settings import Settings

logger = logging.getLogger(__name__)


def build_app(settings: Settings, *, workers: int = 1) -> Flask:
    """The application with a warm model.

    Args:
        settings: Everything the application needs.
        workers: How many processes share the port.

    Raises:
        CheckpointError: The checkpoint cannot be found or used.
        SettingsError: There is no such device or precision, or Redis' address cannot be used.
    """
    began = time.perf_counter()
    counts = Metrics(is_multiprocess=workers > 1)
    parts = compose(settings, counts.observe_stage)
    counts.watch(parts.store.statistics, lambda: parts.scheduler.waiting, parts.refinements.statistics)
    parts.scheduler.run(parts.predictor.warm_up, Terms())
    backend = connect(settings, parts, counts.count_failure, counts.observe_stage)
    facts = _facts(parts, backend.base_version)
    app = create_app(backend, settings=settings, facts=lambda: facts, counts=counts)
    gc.collect()
    gc.freeze()  # the libraries' half a million objects stay: looking through them all would cost some click 0.25 s
    predictor = parts.predictor
    logger.info(
        "Loaded %s on %s in %s, warm after %.1f s",
        predictor.name,
        predictor.device,
        predictor.dtype,
        time.perf_counter() - began,
    )
    if parts.demo_notice:
        logger.warning(parts.demo_notice)
    return app


def _facts(parts: Parts, model_version: str) -> dict[str, Any]:
    predictor = parts.predictor
    facts = {
        "model_class": "SAM3",
        "model_version": model_version,
        "checkpoint": predictor.name,
        "device": predictor.device,
        "dtype": predictor.dtype,
        "demo": parts.demo_notice is not None,
        "server_version": sam3_backend.__version__,
    }
    return facts | ({"notice": parts.demo_notice} if parts.demo_notice else {})
