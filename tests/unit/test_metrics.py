"""What is counted comes out in Prometheus' words."""

from __future__ import annotations

import pytest

from sam3_backend.embeddings.refinement_store import RefinementStatistics
from sam3_backend.embeddings.store import StoreStatistics
from sam3_backend.server.metrics import Metrics


def lines(counts: Metrics) -> list[str]:
    return counts.text().decode().splitlines()


def test_requests_are_counted_by_route_and_status() -> None:
    counts = Metrics()
    counts.observe_request("/predict", 200, 0.02)
    counts.observe_request("/predict", 200, 0.2)
    counts.observe_request("/predict", 503, 0.001)
    assert 'sam3_requests_total{route="/predict",status="200"} 2.0' in lines(counts)
    assert 'sam3_requests_total{route="/predict",status="503"} 1.0' in lines(counts)
    assert 'sam3_request_seconds_bucket{le="0.025",route="/predict"} 2.0' in lines(counts)
    assert 'sam3_request_seconds_count{route="/predict"} 3.0' in lines(counts)


@pytest.mark.parametrize("stage", ["download", "decode", "encode", "prompt", "regions"])
def test_stages_have_latencies(stage: str) -> None:
    counts = Metrics()
    counts.observe_stage(stage, 0.003)
    assert f'sam3_stage_seconds_bucket{{le="0.005",stage="{stage}"}} 1.0' in lines(counts)


def test_failures_are_counted_by_code() -> None:
    counts = Metrics()
    counts.count_failure("image_unreachable")
    assert 'sam3_failures_total{code="image_unreachable"} 1.0' in lines(counts)


def test_a_superseded_prompt_is_no_failure() -> None:
    counts = Metrics()
    counts.count_failure("superseded")
    assert "sam3_superseded_total 1.0" in lines(counts)
    assert not any(line.startswith("sam3_failures_total{") for line in lines(counts))


def test_the_stores_running_totals_are_not_counted_twice() -> None:
    counts = Metrics()
    totals = [StoreStatistics(hits=3, joined=1, fetched=0, made=2, kept=2, kept_bytes=100)]
    counts.watch(lambda: totals[0], lambda: 5)
    counts.read_totals()
    counts.read_totals()
    totals[0] = StoreStatistics(hits=7, joined=1, fetched=1, made=2, faults=4, kept=3, kept_bytes=150)
    text = lines(counts)
    assert 'sam3_embedding_lookups_total{outcome="hit"} 7.0' in text
    assert 'sam3_embedding_lookups_total{outcome="joined"} 1.0' in text
    assert 'sam3_embedding_lookups_total{outcome="fetched"} 1.0' in text
    assert 'sam3_embedding_lookups_total{outcome="made"} 2.0' in text
    assert "sam3_redis_faults_total 4.0" in text
    assert "sam3_embedding_bytes 150.0" in text
    assert "sam3_embeddings 3.0" in text
    assert "sam3_model_calls_waiting 5.0" in text


def test_what_is_refined_is_counted_by_where_it_came_from() -> None:
    counts = Metrics()
    totals = [RefinementStatistics(hits=3, made=1)]
    counts.watch(StoreStatistics, refinements=lambda: totals[0])
    counts.read_totals()
    totals[0] = RefinementStatistics(hits=4, fetched=2, made=1)
    text = lines(counts)
    for outcome, count in (("hit", 4.0), ("fetched", 2.0), ("made", 1.0)):
        assert f'sam3_refinement_lookups_total{{outcome="{outcome}"}} {count}' in text


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.count_failure("model_busy")
    assert 'sam3_failures_total{code="model_busy"} 1.0' not in lines(other)
