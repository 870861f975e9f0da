"""Attributes in the labelling config that tune the answer, and what each of them may be.

One table, ``ATTRIBUTES``, says it all; ``docs/labelling-configs.md`` shows it to people. Does not know where in a
config the attributes are written, nor how an answer comes about.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from sam3_backend.errors import InvalidLabelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DEFAULT_MAX_REGIONS = 50
"""Regions per task where the config says nothing: labelling pages become slow with hundreds of masks."""

MODES = ("segment", "exemplar", "negative_exemplar")
"""What a rectangle asks: cut out what is in it; find all that looks like what is in it; find nothing like it."""

MOST_PX = 100.0


class MinArea(NamedTuple):
    """The smallest object returned.

    Attributes:
        px: In pixels.
        fraction: As a share of the picture, [0, 1]. An object must have both.
    """

    px: int = 1
    fraction: float = 0.0


class Tuning(NamedTuple):
    """How a config tunes all its answers; None where it does not say.

    Attributes:
        score_threshold: Least detection score, [0, 1].
        mask_threshold: Least probability of a mask's pixels, (0, 1).
        nms_iou: Overlap above which the worse of two objects of one label is dropped, [0, 1].
        max_regions: Most objects per task.
        min_area: The smallest object.
        multimask: Whether a click's best of three masks is taken.
        prompt_field: Field of the task that holds the prompts, instead of the labels.
    """

    score_threshold: float | None = None
    mask_threshold: float | None = None
    nms_iou: float | None = None
    max_regions: int | None = None
    min_area: MinArea | None = None
    multimask: bool | None = None
    prompt_field: str | None = None


class Attribute(NamedTuple):
    """One attribute.

    Attributes:
        place: The controls it is written on: ``any`` (then it holds for the whole config), ``output``, ``rectangle``,
            ``parameter`` (Choices, Number) or ``textarea``.
        allowed: What it may be, for people.
        read: Reads its text; raises ``ValueError`` where it is not allowed.
        default: What holds where it is not written, for people.
        meaning: What it does, for people.
    """

    place: str
    allowed: str
    read: Callable[[str], Any]
    default: str
    meaning: str


def _number(text: str, least: float, most: float) -> float:
    value = float(text)
    if not least <= value <= most:
        raise ValueError(text)
    return value


def _fraction(text: str) -> float:
    return _number(text, 0.0, 1.0)


def _inner_fraction(text: str) -> float:
    return _number(text, math.nextafter(0, 1), math.nextafter(1, 0))


def _pixels(text: str) -> float:
    return _number(text.removesuffix("px"), 0.0, MOST_PX)


def _count(text: str) -> int:
    value = float(text)  # answered numbers may be written 3.0
    if value < 1 or value != int(value):
        raise ValueError(text)
    return int(value)


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _area(text: str) -> MinArea:
    if text.endswith("%"):
        return MinArea(fraction=_number(text[:-1], 0.0, 100.0) / 100)
    return MinArea(px=max(1, math.ceil(_number(text.removesuffix("px"), 0.0, 1e12))))


def _field(text: str) -> str:
    field = text.removeprefix("$")
    if not field or any(character.isspace() for character in field):
        raise ValueError(text)
    return field


def _mode(text: str) -> str:
    return MODES[MODES.index(text.lower())]


def _parameter(text: str) -> str:
    return PARAMETERS[PARAMETERS.index(text.lower())]


PARAMETERS = ("mode", "score_threshold", "mask_threshold", "nms_iou", "max_regions", "min_area")
"""What an annotator may set for the moment, by answering a Choices (mode) or a Number (the others)."""

_A_FRACTION = "a number from 0 to 1"
_AN_AREA = 'pixels, for example "50", or a share of the picture, for example "0.1%"'
_A_LENGTH = "a number of pixels from 0 to 100"
_A_TRUTH = '"true" or "false"'

ATTRIBUTES: dict[str, Attribute] = {
    "model_score_threshold": Attribute(
        *("any", _A_FRACTION, _fraction, "the checkpoint's, mostly 0.5"),
        "Objects found by texts and examples need a higher detection score.",
    ),
    "model_mask_threshold": Attribute(
        *("any", "a number between 0 and 1, neither of them", _inner_fraction, "0.5"),
        "Pixels need a higher probability to belong to an object: more makes masks tighter, less makes them wider.",
    ),
    "model_nms_iou": Attribute(
        *("any", _A_FRACTION, _fraction, "0.5 between prompts of one label, nothing within a prompt"),
        "Of two objects of one label that overlap by more than this IoU the worse one is dropped.",
    ),
    "model_max_regions": Attribute(
        *("any", "a whole number, 1 or more", _count, str(DEFAULT_MAX_REGIONS)),
        "Most objects returned for a task, the best ones; the server's log says when there were more.",
    ),
    "model_min_area": Attribute(*("any", _AN_AREA, _area, "1"), "Smaller objects are left out."),
    "model_multimask": Attribute(
        *("any", _A_TRUTH, _truth, "true for a single click, else false"),
        "Whether points and boxes take the best of three masks (part, object, group) or the model's single one.",
    ),
    "model_prompt_field": Attribute(
        *("any", 'the name of a field of the task, for example "caption"', _field, "the labels are looked for"),
        "Predictions look for what each task's data says in this field, instead of the labels.",
    ),
    "model_output": Attribute(
        *("output", _A_TRUTH, _truth, "true unless the control is smart"), "Whether masks are written to the control."
    ),
    "model_skip": Attribute(
        *("output", _A_TRUTH, _truth, "false"), "Leaves the control out: nothing is written to it."
    ),
    "model_smooth": Attribute(
        *("output", _A_LENGTH, _pixels, "0"),
        "Rounds outlines: spikes and notches narrower than about this go.",
    ),
    "model_tolerance": Attribute(
        *("output", _A_LENGTH, _pixels, "1/400 of the picture's longer side, at least 1"),
        "How far the outline of a polygon or vector may move to save points; IoU with the mask stays 0.95 or more.",
    ),
    "model_mode": Attribute(
        *("rectangle", '"segment", "exemplar" or "negative_exemplar"', _mode, "segment"),
        "What a rectangle asks: cut out the object in it; find all that look like it; find none that look like it.",
    ),
    "model_parameter": Attribute(
        *("parameter", "one of " + ", ".join(f'"{each}"' for each in PARAMETERS), _parameter, "by the control's name"),
        "What the annotator's answer sets for the moment.",
    ),
    "model_message": Attribute(
        *("textarea", _A_TRUTH, _truth, "false"), "Here the annotator reads why a prompt gave nothing."
    ),
}
"""Every attribute. Of those at ``any``, ``Tuning`` has the fields."""

_TUNING = {f"model_{field}": field for field in Tuning._fields}


def read_attribute(tag: str, attributes: Mapping[str, str], name: str) -> Any:
    """The value of one attribute of a tag, or None where it is not written.

    Args:
        tag: What to call the tag before people.
        attributes: Its attributes, names in small letters.
        name: The attribute, a key of ``ATTRIBUTES``.

    Raises:
        InvalidLabelConfig: The value is not allowed.
    """
    text = attributes.get(name)
    if text is None:
        return None
    attribute = ATTRIBUTES[name]
    try:
        return attribute.read(text)
    except (KeyError, OverflowError, ValueError) as fault:
        raise InvalidLabelConfig(f'{tag}: {name} must be {attribute.allowed}, not "{text}".') from fault


def read_tuning(tags: Iterable[tuple[str, Mapping[str, str]]]) -> Tuning:
    """What the tags of one labelling config say together.

    Args:
        tags: Of each tag, what to call it before people, and its attributes (names in small letters).

    Raises:
        InvalidLabelConfig: A value is not allowed, or two tags contradict each other.
    """
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for tag, attributes in tags:
        for name, field in _TUNING.items():
            value = read_attribute(tag, attributes, name)
            if value is None:
                continue
            if values.setdefault(field, value) != value:
                raise InvalidLabelConfig(
                    f'{tag}: {name} is "{attributes[name]}" here and "{texts[name]}" on another tag. Write it once.'
                )
            texts.setdefault(name, attributes[name])
    return Tuning(**values)
