"""A run's statistics as one HTML file that needs nothing else: people look before they trust a pre-annotation."""

from __future__ import annotations

import base64
import io
import time
from html import escape
from typing import TYPE_CHECKING

from sam3_backend.bulk.statistics import AREA_EDGES, SCORE_BINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from PIL import Image

    from sam3_backend.bulk.sample import Sample
    from sam3_backend.bulk.statistics import LabelCount, Statistics
    from sam3_backend.bulk.work import Task

LONGEST_SIDE_PX = 640
MOST_FAILURES = 200
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2430; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #ccd } td.n { text-align: right; font-variant-numeric: tabular-nums }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 9rem; max-width: 46rem; border-bottom: 1px solid #889 }
.bars { margin-top: 2rem } .bars div { flex: 1; background: #0072b2; min-width: 4px; position: relative }
.bars span { position: absolute; top: -1.3em; right: 0; font-size: .7rem; color: #667 }
.edges { display: flex; gap: 2px; max-width: 46rem }
.edges span { flex: 1; font-size: .7rem; text-align: right; color: #667 }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem }
figure { margin: 0 } figure img { width: 100% } figcaption { font-size: .8rem; color: #445; overflow-wrap: anywhere }
"""


def render_report(
    title: str,
    model_version: str,
    statistics: Statistics,
    failures: Sequence[tuple[Task, str, str]],
    samples: Iterable[Sample],
    name: Callable[[Task | int], str],
) -> str:
    """The report, HTML.

    Args:
        title: What was pre-annotated.
        model_version: By what.
        statistics: The run in numbers.
        failures: The tasks that failed, each with the fault's code and message.
        samples: A few tasks, drawn.
        name: What to call a task, or its number.
    """
    counts = statistics.counts
    left = counts.get("waiting", 0) + counts.get("sending", 0)
    states = [
        ("predicted", counts.get("written", 0)),
        ("had a prediction already", counts.get("held", 0)),
        ("failed", counts.get("failed", 0)),
        ("left", left),
        ("predicted, nothing found", statistics.empty),
    ]
    found = statistics.labels
    labels = [(each.label or "(none)", each.objects, each.tasks, score_shown(each)) for each in found]
    parts = [
        f"<p>Model version <code>{escape(model_version)}</code>, {time.strftime('%Y-%m-%d %H:%M')}</p>",
        _table(("tasks", ""), states),
        "<h2>Labels</h2>",
        _table(("label", "objects", "tasks", "mean score"), labels) if labels else "<p>Nothing was found.</p>",
        "<h2>Scores</h2>",
        _bars(statistics.scores, [f"{(place + 1) / SCORE_BINS:.2f}" for place in range(SCORE_BINS)]),
        "<h2>Areas, in % of the picture</h2>",
        _bars(statistics.areas, [f"{100 * edge:g}" for edge in AREA_EDGES]),
        "<h2>Samples</h2>",
        f'<div class="pictures">{"".join(_figure(each, name) for each in samples)}</div>',
        "<h2>Slowest</h2>",
        _table(("task", "seconds"), [(name(number), f"{took_s:.2f}") for number, took_s in statistics.slowest]),
    ]
    if failures:
        shown = [(name(task), code, message) for task, code, message in failures[:MOST_FAILURES]]
        more = len(failures) - len(shown)
        parts += ["<h2>Failures</h2>", _table(("kind", "tasks"), list(statistics.failures.items()))]
        parts += [_table(("task", "kind", "why"), shown), f"<p>… and {more} more.</p>" if more else ""]
    heading = escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{heading}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def score_shown(label: LabelCount) -> str:
    """A label's mean score, for people."""
    return "-" if label.mean_score is None else f"{label.mean_score:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place and not isinstance(each, str) else ''}>{escape(str(each))}</{tag}>"
            for place, each in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', heads)}</tr>{body}</table>"


def _bars(counts: Sequence[int], edges: Sequence[str]) -> str:
    most = max(1, *counts)
    bars = "".join(
        f'<div style="height:{100 * count / most:.1f}%"><span>{f"{count:,}" if count else ""}</span></div>'
        for count in counts
    )
    return f'<div class="bars">{bars}</div><div class="edges">{"".join(f"<span>{edge}</span>" for edge in edges)}</div>'


def _figure(sample: Sample, name: Callable[[Task | int], str]) -> str:
    caption = f"<figcaption>{escape(name(sample.task))}: {escape(sample.said)}</figcaption>"
    if sample.drawing is None:
        return f"<figure>{caption}</figure>"
    return f'<figure><img alt="" src="data:image/jpeg;base64,{_jpeg(sample.drawing)}">{caption}</figure>'


def _jpeg(drawing: Image.Image) -> str:
    small = drawing.copy()
    small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82)
    return base64.b64encode(file.getvalue()).decode()
