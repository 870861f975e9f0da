"""Answered Choices and Numbers as parameters of the moment.

A Choices or a Number is a parameter where ``model_parameter`` says so, or where its name does: ``mode``, ``threshold``,
``max_regions`` and the like. What the annotator answers then counts for this request instead of what the labelling
config says. The page sends answers along with texts, not with points and rectangles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sam3_backend.errors import InvalidLabelConfig, InvalidPrompt
from sam3_backend.label_studio.tuning import ATTRIBUTES, PARAMETERS, Tuning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sam3_backend.label_studio.controls import Tag

OTHER_NAMES = {"threshold": "score_threshold", "thr": "score_threshold"}
"""Further names by which a control is taken for a parameter."""

CHOICES: dict[str, tuple[str, Any]] = {
    "segment": ("mode", "segment"),
    "cut out": ("mode", "segment"),
    "exemplar": ("mode", "exemplar"),
    "all like this": ("mode", "exemplar"),
    "find all like this": ("mode", "exemplar"),
    "all": ("max_regions", None),
    "all instances": ("max_regions", None),
    "best": ("max_regions", 1),
    "best only": ("max_regions", 1),
}
"""What the choices of a ``mode`` mean, in small letters."""


class Moment(NamedTuple):
    """What holds for one request.

    Attributes:
        tuning: The config's, with what the annotator answered in its place.
        mode: What rectangles ask, or None for what their controls say.
    """

    tuning: Tuning
    mode: str | None = None


def parameter_controls(tied: Iterable[Tag]) -> dict[str, str]:
    """Which controls are parameters, and of what: names of controls to ``PARAMETERS``.

    Raises:
        InvalidLabelConfig: ``model_parameter`` is written where it cannot work.
    """
    found = {}
    for tag in tied:
        if tag.kind not in {"choices", "number"}:
            continue
        meant = tag["model_parameter"]
        by_name = tag.name.lower().removeprefix("model_")
        parameter = meant or OTHER_NAMES.get(by_name, by_name)
        if parameter not in PARAMETERS or (parameter == "mode") != (tag.kind == "choices"):
            if meant:
                kind = "a Choices" if meant == "mode" else "a Number"
                raise InvalidLabelConfig(f'{tag}: model_parameter="{meant}" must be on {kind}.')
            continue
        if meant == "mode":
            _check_choices(tag)
        found[tag.name] = parameter
    return found


def read_moment(regions: Sequence[Mapping[str, Any]], parameters: Mapping[str, str], tuning: Tuning) -> Moment:
    """What holds for a request with these regions.

    Args:
        regions: Of the request; those that are no parameters are passed over.
        parameters: As ``parameter_controls`` found them.
        tuning: The config's.

    Raises:
        InvalidPrompt: A number is out of range.
    """
    moment = Moment(tuning)
    for region in regions:
        name, value = region.get("from_name"), region.get("value")
        parameter = parameters.get(name) if isinstance(name, str) else None
        if parameter is None or not isinstance(value, dict):
            continue
        if parameter == "mode":
            moment = _chosen(moment, value.get("choices"))
        elif value.get("number") is not None:
            read = _number(str(name), parameter, value["number"])
            moment = moment._replace(tuning=moment.tuning._replace(**{parameter: read}))
    return moment


def _check_choices(tag: Tag) -> None:
    for child in tag.element.iter():
        stored = child.get("alias") or child.get("value")
        if child.tag.lower() == "choice" and stored and stored.strip().lower() not in CHOICES:
            known = ", ".join(f'"{each}"' for each in CHOICES)
            raise InvalidLabelConfig(f'{tag}: a choice of a mode must be one of {known}, not "{stored}".')


def _chosen(moment: Moment, choices: object) -> Moment:
    """Choices this backend does not know are for people."""
    for choice in choices if isinstance(choices, list) else []:
        what, value = CHOICES.get(str(choice).strip().lower(), (None, None))
        if what == "mode":
            moment = moment._replace(mode=value)
        elif what is not None:
            moment = moment._replace(tuning=moment.tuning._replace(max_regions=value or moment.tuning.max_regions))
    return moment


def _number(name: str, parameter: str, value: object) -> Any:
    attribute = ATTRIBUTES[f"model_{parameter}"]
    try:
        return attribute.read(str(value))
    except (OverflowError, ValueError) as fault:
        raise InvalidPrompt(f'"{name}" must be {attribute.allowed}, not {value}.') from fault
