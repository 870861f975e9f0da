"""What ``sam3-backend doctor`` says about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "advice", "bad"]

PATIENCE_S = 5.0
"""Longest wait for anything that is looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at.
        verdict: ``good``, ``advice`` (works, but a person should know) or ``bad``.
        words: What was found and, if need be, what to do.
    """

    subject: str
    verdict: Verdict
    words: str
