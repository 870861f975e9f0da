"""What the server counts, in Prometheus' words.

One object per process; every series is its own, so that two servers in one process do not mix. With several workers
the numbers of all of them are added up through files, the way ``prometheus_client`` does it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from sam3_backend.embeddings.refinement_store import RefinementStatistics
from sam3_backend.embeddings.store import StoreStatistics
from sam3_backend.errors import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable


REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)

content_type = CONTENT_TYPE_LATEST


class Metrics:
    """Counters and histograms of one server process.

    Args:
        is_multiprocess: Whether several workers add up their numbers; then ``PROMETHEUS_MULTIPROC_DIR`` names the
            directory of their files.
    """

    def __init__(self, *, is_multiprocess: bool = False) -> None:
        self._is_multiprocess = is_multiprocess
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("sam3_requests", "HTTP requests answered.", ["route", "status"], registry=registry)
        self._request_seconds = Histogram(
            "sam3_request_seconds", "Wall time of HTTP requests.", ["route"], buckets=REQUEST_SECONDS, registry=registry
        )
        self._stage_seconds = Histogram(
            "sam3_stage_seconds", "Wall time of a stage of a task.", ["stage"], buckets=STAGE_SECONDS, registry=registry
        )
        self._failures = Counter("sam3_failures", "Requests and tasks that failed.", ["code"], registry=registry)
        self._superseded = Counter(
            "sam3_superseded", "Prompts that a newer one replaced before they were answered.", registry=registry
        )
        self._running = Gauge(
            "sam3_predictions_running",
            "Predict requests being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._lookups = Counter(
            "sam3_embedding_lookups",
            "Embeddings by where they came from: memory (hit), another request that was fetching or making it "
            "(joined), Redis (fetched), the model (made).",
            ["outcome"],
            registry=registry,
        )
        self._refinement_lookups = Counter(
            "sam3_refinement_lookups",
            "Mask logits that a further click refined by where they came from: memory (hit), Redis (fetched), the "
            "click decoder again (made).",
            ["outcome"],
            registry=registry,
        )
        self._kept_bytes = Gauge(
            "sam3_embedding_bytes", "Bytes of embeddings in memory.", registry=registry, multiprocess_mode="livesum"
        )
        self._kept = Gauge("sam3_embeddings", "Embeddings in memory.", registry=registry, multiprocess_mode="livesum")
        self._waiting = Gauge(
            "sam3_model_calls_waiting",
            "Model calls that wait for the device.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._lock = threading.Lock()
        self._calls_waiting: Callable[[], int] = lambda: 0
        self._statistics: Callable[[], StoreStatistics] | None = None
        self._refinements: Callable[[], RefinementStatistics] = RefinementStatistics
        self._faults = Counter("sam3_redis_faults", "Times Redis did not answer as it should.", registry=registry)
        self._unwritten = Counter(
            "sam3_embeddings_unwritten", "Embeddings made and not shared through Redis.", registry=registry
        )
        self._last = StoreStatistics()
        self._last_refinements = RefinementStatistics()

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request.

        Args:
            route: The rule that matched, never the raw path: paths are unbounded.
            status: HTTP status of the answer.
            seconds: Wall time.
        """
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count one stage (download, encode, prompt, regions ...) of one task, with its wall time."""
        self._stage_seconds.labels(stage).observe(seconds)

    def count_failure(self, code: str) -> None:
        """Count one failed request or task by its error code; an annotator who clicks fast is no failure."""
        if code == Superseded.code:
            self._superseded.inc()
        else:
            self._failures.labels(code).inc()

    def prediction_started(self) -> None:
        """One more predict request is being answered."""
        self._running.inc()

    def prediction_ended(self) -> None:
        """One less predict request is being answered."""
        self._running.dec()
        if self._is_multiprocess:  # another worker may be the one whose numbers are looked at
            self.read_totals()

    def watch(
        self,
        statistics: Callable[[], StoreStatistics],
        calls_waiting: Callable[[], int] = lambda: 0,
        refinements: Callable[[], RefinementStatistics] = RefinementStatistics,
    ) -> None:
        """Read running totals before every look at the numbers; with several workers after every prediction, too.

        Args:
            statistics: The embedding store's.
            calls_waiting: How many model calls wait for the device.
            refinements: The refinement store's statistics.
        """
        self._statistics = statistics
        self._calls_waiting = calls_waiting
        self._refinements = refinements

    def read_totals(self) -> None:
        """Bring what is counted elsewhere up to date."""
        self._waiting.set(self._calls_waiting())
        if self._statistics is None:
            return
        with self._lock:
            now, last = self._statistics(), self._last
            self._lookups.labels("hit").inc(now.hits - last.hits)
            self._lookups.labels("joined").inc(now.joined - last.joined)
            self._lookups.labels("fetched").inc(now.fetched - last.fetched)
            self._lookups.labels("made").inc(now.made - last.made)
            self._faults.inc(now.faults - last.faults)
            self._unwritten.inc(now.unwritten - last.unwritten)
            self._last = now
            refined, before = self._refinements(), self._last_refinements
            self._refinement_lookups.labels("hit").inc(refined.hits - before.hits)
            self._refinement_lookups.labels("fetched").inc(refined.fetched - before.fetched)
            self._refinement_lookups.labels("made").inc(refined.made - before.made)
            self._last_refinements = refined
        self._kept_bytes.set(now.kept_bytes)
        self._kept.set(now.kept)

    def text(self) -> bytes:
        """Everything counted, in Prometheus' text format."""
        self.read_totals()
        registry = self._registry
        if self._is_multiprocess:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
