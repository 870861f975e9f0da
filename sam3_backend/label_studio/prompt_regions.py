"""The page's prompt regions, read into prompts.

Percentages become fractions, regions become prompts; the picture's size, as the page claims it, is never read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam3_backend.errors import InvalidPrompt
from sam3_backend.label_studio.text_prompts import written_prompts
from sam3_backend.prompts import Box, Exemplar, Point, PromptSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sam3_backend.label_studio.label_config import LabelConfig

ROUNDING_PCT = 1e-6
"""How far outside the picture the page's own rounding may put a prompt at its edge, in %."""
ABSURD = 1e9


def region_prompts(
    regions: Sequence[Mapping[str, Any]], config: LabelConfig, mode: str | None = None
) -> tuple[PromptSet, ...]:
    """The questions that the page's prompt regions ask together.

    Points with the same label are about one object; rectangles that show examples of one label are one question; every
    other rectangle and every text is a question of its own. Regions that are no prompts are passed over: answered
    choices and numbers, and what the page leaves of accepted prompts.

    Args:
        regions: As the page sends them.
        config: The project's labelling config.
        mode: What rectangles ask, instead of what their controls say; negative examples stay what they are.

    Raises:
        InvalidPrompt: A prompt is out of range or not a number, or there are negative examples alone.
    """
    names_by_id = {str(each.get("id")): name for each in regions if (name := _label_name(each.get("value")))}
    questions = _Questions(config, mode)
    for region in regions:
        kind, value = str(region.get("type")), region.get("value")
        if not isinstance(value, dict) or str(region.get("from_name")) in config.not_prompts:
            continue
        # Plain tools keep the label in a region of its own, with the same id.
        label = config.label_for(_label_name(value) or names_by_id.get(str(region.get("id"))))
        if kind in {"keypointlabels", "keypoint"} and {"x", "y"} <= value.keys():
            questions.add_point(label, _point(region, value))
        elif kind in {"rectanglelabels", "rectangle"} and {"x", "y", "width", "height"} <= value.keys():
            questions.add_rectangle(label, region, value)
        elif kind == "textarea":
            questions.add_texts(value)
    return questions.asked()


class _Questions:
    """Collects prompts into questions, in the order in which each question was begun."""

    def __init__(self, config: LabelConfig, mode: str | None) -> None:
        self._config = config
        self._mode = mode
        self._asked: dict[object, PromptSet] = {}

    def add_point(self, label: str | None, point: Point) -> None:
        before = self._asked.get((label, "points"))
        self._asked[label, "points"] = PromptSet(points=(*(before.points if before else ()), point), label=label)

    def add_rectangle(self, label: str | None, region: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        box, mode = _box(value), self._config.modes.get(str(region.get("from_name")), "segment")
        is_example = mode == "negative_exemplar" or (self._mode or mode) == "exemplar"
        if not is_example:
            self._asked[label, box] = PromptSet(box=box, label=label)
            return
        exemplar = Exemplar(box, is_positive=mode != "negative_exemplar" and _is_positive(region, value))
        before = self._asked.get((label, "exemplars"))
        exemplars = (*(before.exemplars if before else ()), exemplar)
        self._asked[label, "exemplars"] = PromptSet(exemplars=exemplars, label=label)

    def add_texts(self, value: Mapping[str, Any]) -> None:
        for text in _texts(value):
            for prompt in written_prompts(text, self._config):
                self._asked.setdefault(((prompt.text or "").casefold(), prompt.label), prompt)

    def asked(self) -> tuple[PromptSet, ...]:
        for each in self._asked.values():
            if each.exemplars and not any(exemplar.is_positive for exemplar in each.exemplars):
                raise InvalidPrompt("Draw a box around one to find first: this one only says what not to find.")
        return tuple(self._asked.values())


def _label_name(value: object) -> str | None:
    """The first label in a region's value."""
    for field in ("keypointlabels", "rectanglelabels", "labels"):
        names = value.get(field) if isinstance(value, dict) else None
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return None


def _point(region: Mapping[str, Any], value: Mapping[str, Any]) -> Point:
    return Point(_fraction(value, "x"), _fraction(value, "y"), _is_positive(region, value))


def _is_positive(region: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    # Only what is marked as "not this" is negative: older pages and other clients send no mark at all.
    return region.get("is_positive", value.get("is_positive")) is not False


def _box(value: Mapping[str, Any]) -> Box:
    x, y, width, height = (_number(value, name) for name in ("x", "y", "width", "height"))
    rotation_deg = _number(value, "rotation") % 360 if value.get("rotation") is not None else 0.0
    if rotation_deg:
        return Box(x / 100, y / 100, (x + width) / 100, (y + height) / 100, rotation_deg)
    edges = {"x": x, "y": y, "x + width": x + width, "y + height": y + height}
    return Box(*(_fraction(edges, name) for name in edges))


def _texts(value: Mapping[str, Any]) -> Iterator[str]:
    """The texts typed, in one line each; what is blank is left out."""
    typed = value.get("text")
    for text in typed if isinstance(typed, list) else [typed]:
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidPrompt("A text prompt must be a text.")
        if line := " ".join(text.split()):
            yield line


def _number(value: Mapping[str, Any], name: str) -> float:
    number = value[name]
    # Compared first, because whole numbers in JSON may be too large for a float.
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < ABSURD:
        raise InvalidPrompt(f"A prompt's {name} is not a number. Remove the prompt and place it again.")
    return float(number)


def _fraction(value: Mapping[str, Any], name: str) -> float:
    percent = _number(value, name)
    if not -ROUNDING_PCT <= percent <= 100 + ROUNDING_PCT:
        raise InvalidPrompt(f"A prompt lies outside the picture: its {name} is {percent:g} %. Place it again.")
    return min(max(percent / 100, 0.0), 1.0)
