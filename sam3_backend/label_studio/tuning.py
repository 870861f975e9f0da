"""Attributes in the labelling config that tune the answer, and what each of them may be.

One table, ``TUNING_ATTRIBUTES``, says it all. Does not know where the attributes are written, nor what they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sam3_backend.errors import InvalidLabelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Tuning(NamedTuple):
    """How the config tunes the answer; None where it does not say.

    Attributes:
        score_threshold: Least detection score, [0, 1].
        max_regions: Most regions per task.
    """

    score_threshold: float | None = None
    max_regions: int | None = None


class _Attribute(NamedTuple):
    """A tuning attribute: where its value goes, what it may be, and how it is read (``ValueError`` if it is not)."""

    field: str
    allowed: str
    read: Callable[[str], float]


def _fraction(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


TUNING_ATTRIBUTES = {
    "model_score_threshold": _Attribute("score_threshold", "a number from 0 to 1", _fraction),
    "model_max_regions": _Attribute("max_regions", "a whole number, 1 or more", _count),
}


def read_tuning(tags: Iterable[tuple[str, Mapping[str, str]]]) -> Tuning:
    """What the tags of one labelling config say together.

    Args:
        tags: Of each tag, what to call it before people, and its attributes (names in small letters).

    Raises:
        InvalidLabelConfig: A value is not allowed, or two tags contradict each other.
    """
    values: dict[str, float] = {}
    for tag, attributes in tags:
        for name, attribute in TUNING_ATTRIBUTES.items():
            if name not in attributes:
                continue
            text = attributes[name]
            try:
                value = attribute.read(text)
            except ValueError as fault:
                raise InvalidLabelConfig(f'{tag}: {name} must be {attribute.allowed}, not "{text}".') from fault
            if values.setdefault(attribute.field, value) != value:
                raise InvalidLabelConfig(
                    f'{tag}: {name} is "{text}" here and {values[attribute.field]} on another tag. Write it once.'
                )
    return Tuning(**values)  # type: ignore[arg-type]  # each attribute reads what its field holds
