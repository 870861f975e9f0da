"""What a project's labelling config asks of this backend.

Reads the XML once per text: which picture, which controls prompts come from, which control masks are written to, what
the labels are called, and the attributes that tune the answer. It does not know tasks, regions or the model.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.labels import Label, find_label
from sam3_backend.label_studio.tuning import Tuning, read_tuning

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CHARACTERS = 1_000_000

OUTPUT_KINDS = ("brushlabels", "brush")
"""Controls masks are written to, by tag in small letters, which is also the type of their regions."""

EXAMPLE_IMAGE = '<Image name="image" value="$image"/>'
EXAMPLE_OUTPUT = '<BrushLabels name="brush" toName="image" smart="false"><Label value="car"/></BrushLabels>'


@dataclass(frozen=True, slots=True)
class Output:
    """A control that masks are written to.

    Attributes:
        name: Its name.
        kind: Its tag in small letters, one of ``OUTPUT_KINDS``.
        labels_name: Name of the control that holds the labels: itself, or a ``Labels`` tag beside a plain ``Brush``;
            None where a plain control has no labels.
        labels: Its labels, in the order of the config.
    """

    name: str
    kind: str
    labels_name: str | None
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class MessageControl:
    """The TextArea in which this backend tells the annotator things.

    Attributes:
        name: Its name.
        to_name: The object it belongs to; better not the picture, or messages are given the selected label.
    """

    name: str
    to_name: str


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A labelling config, as far as this backend cares.

    Attributes:
        image_name: Name of the Image tag.
        data_key: Field of the task that holds the picture's address; dots lead into nested objects.
        outputs: Controls masks are written to, in the order of the config; at least one.
        message: Where the annotator is told things, or None.
        not_prompts: Names of controls whose regions are never prompts.
        tuning: Thresholds and limits.
    """

    image_name: str
    data_key: str
    outputs: tuple[Output, ...]
    message: MessageControl | None
    not_prompts: frozenset[str]
    tuning: Tuning

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """Read a labelling config; a text that was read before is not read again.

        Raises:
            InvalidLabelConfig: It is not XML, has no picture or no output, or an attribute has an impossible value.
        """
        return _parse(xml)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of all outputs, each name once."""
        return tuple({label.stored_name: label for output in self.outputs for label in output.labels}.values())

    def label_for(self, text: str | None) -> str | None:
        """The stored name of the label a text means.

        Args:
            text: A prompt's text, or the name a prompt's own control gave its label.

        Returns:
            The label whose value, alias or predicted value it is, whatever the capitals, singular or plural; else the
            only label there is; else None.
        """
        if text is not None and (meant := find_label(self.labels, text)):
            return meant.stored_name
        return self.labels[0].stored_name if len(self.labels) == 1 else None

    def output_for(self, label: str | None) -> Output:
        """The control that a mask with this label is written to: the first that has the label, else the first."""
        for output in self.outputs:
            if any(each.stored_name == label for each in output.labels):
                return output
        return self.outputs[0]

    @property
    def signature(self) -> str:
        """Everything here that changes a prediction, as text; colours, order and white space do not."""
        outputs = sorted(
            [output.name, output.kind, output.labels_name or "", *sorted(label.signature for label in output.labels)]
            for output in self.outputs
        )
        return json.dumps([self.image_name, self.data_key, outputs, self.tuning._asdict()])


@lru_cache(maxsize=256)
def _parse(xml: str) -> LabelConfig:
    tags = _tags(xml)
    images = [tag for tag in tags if tag.kind == "image"]
    if not images:
        raise InvalidLabelConfig(f"The labelling config has no Image tag. Add {EXAMPLE_IMAGE}.")
    controls = [tag for tag in tags if "toname" in tag.attributes]
    outputs = [tag for tag in tags if tag.kind in OUTPUT_KINDS]
    if not outputs:
        raise InvalidLabelConfig(f"The labelling config has no control to write masks to. Add {EXAMPLE_OUTPUT}.")
    image = _image_of(outputs[0], images)
    tied = [tag for tag in controls if image.name in tag.to_names]
    messages = [tag for tag in controls if tag.kind == "textarea" and tag.is_set("model_message")]
    return LabelConfig(
        image_name=image.name,
        data_key=_data_key(image),
        outputs=tuple(_output(tag, tied) for tag in outputs if image.name in tag.to_names),
        message=MessageControl(messages[0].name, messages[0].to_names[0]) if messages else None,
        not_prompts=frozenset(tag.name for tag in controls if tag not in tied or _is_text_for_people(tag)),
        tuning=read_tuning((str(tag), tag.attributes) for tag in [image, *tied]),
    )


class _Tag:
    """An element with small letters for its tag and its attributes' names, as the labelling page reads them."""

    def __init__(self, element: Element) -> None:
        self.element = element
        self.kind = element.tag.lower()
        self.attributes = {name.lower(): value.strip() for name, value in element.attrib.items()}
        self.name = self.attributes.get("name", "")
        self.to_names = [name.strip() for name in self.attributes.get("toname", "").split(",")]

    def __str__(self) -> str:
        return f'{self.element.tag} "{self.name}"'

    def is_set(self, attribute: str) -> bool:
        """Whether a boolean attribute says true."""
        return self.attributes.get(attribute, "").lower() == "true"


def _tags(xml: str) -> list[_Tag]:
    if len(xml) > MOST_CHARACTERS:
        raise InvalidLabelConfig(f"The labelling config is longer than {MOST_CHARACTERS} characters.")
    try:
        root = fromstring(xml, forbid_dtd=True)
    except ParseError as fault:
        raise InvalidLabelConfig(f"The labelling config is not valid XML: {fault}.") from fault
    except ValueError as fault:
        raise InvalidLabelConfig("The labelling config must be plain XML without DTD and entities.") from fault
    return [_Tag(element) for element in root.iter()]


def _image_of(output: _Tag, images: Sequence[_Tag]) -> _Tag:
    if not output.name:
        raise InvalidLabelConfig(f'{output.element.tag} needs a name, for example name="brush".')
    for image in images:
        if image.name and image.name in output.to_names:
            return image
    raise InvalidLabelConfig(f'{output}: toName must name the Image tag; write toName="{images[0].name or "image"}".')


def _data_key(image: _Tag) -> str:
    value = image.attributes.get("value", "")
    if not re.fullmatch(r"\$\S+", value):
        raise InvalidLabelConfig(f'{image}: value must name a field of the task; write for example value="$image".')
    return value[1:]


def _output(tag: _Tag, tied: Sequence[_Tag]) -> Output:
    if tag.kind.endswith("labels"):
        return Output(tag.name, tag.kind, tag.name, _labels(tag))
    holders = [each for each in tied if each.kind == "labels"]
    if not holders:
        return Output(tag.name, tag.kind, None, ())
    return Output(tag.name, tag.kind, holders[0].name, _labels(holders[0]))


def _labels(tag: _Tag) -> tuple[Label, ...]:
    labels = []
    for child in tag.element.iter():
        entry = _Tag(child)
        value = entry.attributes.get("value")
        if entry.kind == "label" and value:
            texts = entry.attributes.get("predicted_values", "").split(",")
            predicted = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
            labels.append(Label(value, entry.attributes.get("alias") or None, predicted))
    return tuple(labels)


def _is_text_for_people(tag: _Tag) -> bool:
    """Whether a control is a TextArea that is not for prompts: our messages, notes on a region, switched off."""
    is_off = tag.attributes.get("smart", "").lower() == "false"
    return tag.kind == "textarea" and (tag.is_set("model_message") or tag.is_set("perregion") or is_off)
