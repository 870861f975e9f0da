"""The tags of a labelling config, one by one: what each of them is to this backend.

Reads tags and their attributes as the labelling page does. It does not know what the tags of a config make together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.labels import Label
from sam3_backend.label_studio.tuning import ATTRIBUTES, read_attribute

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CHARACTERS = 1_000_000

SHAPES = ("brush", "bitmask", "polygon", "rectangle", "ellipse", "vector")
"""What masks can be written as. Each is a control with labels inside (``BrushLabels``) or a plain one (``Brush``)."""

RECTANGLES = ("rectangle", "rectanglelabels")
"""The one kind of control that can both ask and be written to."""

_KINDS_AT = {
    "output": tuple(kind for shape in SHAPES for kind in (shape, f"{shape}labels")),
    "rectangle": RECTANGLES,
    "parameter": ("choices", "number"),
    "textarea": ("textarea",),
}
_NAMES_AT = {
    "output": "BrushLabels, BitmaskLabels, PolygonLabels, RectangleLabels, EllipseLabels and VectorLabels",
    "rectangle": "RectangleLabels and Rectangle",
    "parameter": "Choices and Number",
    "textarea": "TextArea",
}


class Tag:
    """An element with small letters for its tag and its attributes' names, as the labelling page reads them."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self.kind = element.tag.lower()
        self.attributes = {name.lower(): value.strip() for name, value in element.attrib.items()}
        self.name = self.attributes.get("name", "")
        self.to_names = [name.strip() for name in self.attributes.get("toname", "").split(",")]

    def __str__(self) -> str:
        return f'{self.element.tag} "{self.name}"'

    def __getitem__(self, attribute: str) -> Any:
        """The value of one of our attributes, None where it is not written; ``InvalidLabelConfig`` if not allowed."""
        return read_attribute(str(self), self.attributes, attribute)

    def is_set(self, attribute: str) -> bool:
        """Whether a boolean attribute of Label Studio's own says true."""
        return self.attributes.get(attribute, "").lower() == "true"

    @property
    def shape(self) -> str | None:
        """What masks are written as here, one of ``SHAPES``; None where they cannot be."""
        shape = self.kind.removesuffix("labels")
        return shape if shape in SHAPES else None

    @property
    def is_smart(self) -> bool:
        """Whether the config says that the control asks. The page takes brushes to be smart where nothing is said."""
        return self.is_set("smart")

    def check(self) -> None:
        """Read every attribute of ours once.

        Raises:
            InvalidLabelConfig: A value is not allowed, or the attribute means nothing on this control.
        """
        for name, attribute in ATTRIBUTES.items():
            if self[name] is not None and self.kind not in _KINDS_AT.get(attribute.place, (self.kind,)):
                raise InvalidLabelConfig(
                    f"{self}: {name} means nothing here; it belongs on {_NAMES_AT[attribute.place]}."
                )


@dataclass(frozen=True, slots=True)
class Output:
    """A control that masks are written to.

    Attributes:
        name: Its name.
        kind: Its tag in small letters, which is also the type of its regions.
        labels_name: Name of the control that holds the labels: itself, or a ``Labels`` tag beside a plain ``Brush``;
            None where a plain control has no labels.
        labels: Its labels, in the order of the config.
        smooth_px: How far the outline is rounded, 0 for not at all.
        tolerance_px: How far an outline of points may be moved to save points; None for the default.
    """

    name: str
    kind: str
    labels_name: str | None
    labels: tuple[Label, ...]
    smooth_px: float = 0.0
    tolerance_px: float | None = None

    def has(self, label: str | None) -> bool:
        """Whether a label, by its stored name, is one of its own."""
        return any(each.stored_name == label for each in self.labels)


def read_tags(xml: str) -> list[Tag]:
    """All tags of a labelling config, in their order.

    Raises:
        InvalidLabelConfig: It is not XML, or too long.
    """
    if len(xml) > MOST_CHARACTERS:
        raise InvalidLabelConfig(f"The labelling config is longer than {MOST_CHARACTERS} characters.")
    try:
        root = fromstring(xml, forbid_dtd=True)
    except ParseError as fault:
        raise InvalidLabelConfig(f"The labelling config is not valid XML: {fault}.") from fault
    except ValueError as fault:
        raise InvalidLabelConfig("The labelling config must be plain XML without DTD and entities.") from fault
    return [Tag(element) for element in root.iter()]


def output_tags(tags: Sequence[Tag]) -> list[Tag]:
    """The controls that masks are written to.

    All that are not smart and all with ``model_output="true"``; without any, those smart ones that cannot ask, because
    only points and rectangles can. Never one with ``model_skip="true"``.
    """
    able = [tag for tag in tags if tag.shape and not tag["model_skip"]]
    asked = [tag for tag in able if tag["model_output"] or (tag["model_output"] is None and not tag.is_smart)]
    return asked or [tag for tag in able if tag.kind not in RECTANGLES and tag["model_output"] is None]


def read_output(tag: Tag, tied: Sequence[Tag]) -> Output:
    """A control that masks are written to, with its labels.

    Args:
        tag: The control.
        tied: All controls of its picture.
    """
    holder = tag if tag.kind.endswith("labels") else next((each for each in tied if each.kind == "labels"), None)
    return Output(
        name=tag.name,
        kind=tag.kind,
        labels_name=holder.name if holder else None,
        labels=_labels(holder) if holder else (),
        smooth_px=tag["model_smooth"] or 0.0,
        tolerance_px=tag["model_tolerance"],
    )


def _labels(tag: Tag) -> tuple[Label, ...]:
    labels = []
    for child in tag.element.iter():
        entry = Tag(child)
        value = entry.attributes.get("value")
        if entry.kind == "label" and value:
            texts = entry.attributes.get("predicted_values", "").split(",")
            predicted = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
            labels.append(Label(value, entry.attributes.get("alias") or None, predicted))
    return tuple(labels)
