"""Labels: what they are called on the page, in stored regions, and before the model.

Does not know where labels are written down, nor what is done with them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Label:
    """One label of an output control.

    Attributes:
        value: What the annotator reads.
        alias: What is stored instead of the value, if anything.
        predicted_values: Texts to look for, where the value is not the right one.
    """

    value: str
    alias: str | None = None
    predicted_values: tuple[str, ...] = ()

    @property
    def stored_name(self) -> str:
        """The name regions carry: the labelling page stores the alias where there is one."""
        return self.alias or self.value

    @property
    def texts(self) -> tuple[str, ...]:
        """What to ask the model for. An alias is for programs, so it is not asked for."""
        return self.predicted_values or (self.value,)

    @property
    def signature(self) -> str:
        """What of the label changes a prediction, as text."""
        return json.dumps([self.stored_name, *sorted(self.texts)])


class Meanings:
    """What texts mean which label: its value, alias and predicted values, whatever the capitals, singular or plural.

    Args:
        labels: The first of those that a text may mean is meant.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self._by_text: list[tuple[Callable[[str], str], dict[str, Label]]] = [(_fold, {}), (_singular, {})]
        for fold, known in self._by_text:
            for label in labels:
                for name in (label.value, label.stored_name, *label.predicted_values):
                    known.setdefault(fold(name), label)

    def find(self, text: str) -> Label | None:
        """The label a text means."""
        for fold, known in self._by_text:
            if label := known.get(fold(text)):
                return label
        return None


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def _singular(text: str) -> str:
    """A text in the singular, for comparing only: what it does to odd words it does on both sides."""
    folded = _fold(text)
    if folded.endswith("ies"):
        return folded[:-3] + "y"
    if re.search(r"(s|x|ch|sh)es$", folded):
        return folded[:-2]
    return folded.removesuffix("s")
