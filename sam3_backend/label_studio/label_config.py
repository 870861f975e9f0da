"""What a project's labelling config asks of this backend.

Reads the XML once per text: which picture, which controls prompts come from, which controls masks are written to, what
the labels are called, and the attributes that tune the answer. It does not know tasks, regions or the model.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.controls import RECTANGLES, Output, Tag, output_tags, read_output, read_tags
from sam3_backend.label_studio.labels import Label, Meanings
from sam3_backend.label_studio.parameters import parameter_controls
from sam3_backend.label_studio.tuning import DEFAULT_MAX_REGIONS, Tuning, read_tuning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXAMPLE_IMAGE = '<Image name="image" value="$image"/>'
EXAMPLE_OUTPUT = '<BrushLabels name="brush" toName="image" smart="false"><Label value="car"/></BrushLabels>'


@dataclass(frozen=True, slots=True)
class MessageControl:
    """The TextArea in which this backend tells the annotator things.

    Attributes:
        name: Its name.
        to_name: The object it belongs to; better not the picture, or messages are given the selected label.
    """

    name: str
    to_name: str


@dataclass(frozen=True)
class LabelConfig:
    """A labelling config, as far as this backend cares.

    Attributes:
        image_name: Name of the Image tag.
        data_key: Field of the task that holds the picture's address; dots lead into nested objects.
        outputs: Controls masks are written to, in the order of the config; at least one.
        message: Where the annotator is told things, or None.
        not_prompts: Names of controls whose regions are never prompts.
        tuning: Thresholds and limits.
        modes: What rectangles ask, by their control's name: one of ``tuning.MODES``.
        parameters: Controls whose answers are parameters: their names to ``tuning.PARAMETERS``.
    """

    image_name: str
    data_key: str
    outputs: tuple[Output, ...]
    message: MessageControl | None
    not_prompts: frozenset[str]
    tuning: Tuning
    modes: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """Read a labelling config; a text that was read before is not read again.

        Raises:
            InvalidLabelConfig: It is not XML, has no picture or no output, or an attribute has an impossible value.
        """
        return _parse(xml)

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The labels of all outputs, each name once."""
        return tuple({label.stored_name: label for output in self.outputs for label in output.labels}.values())

    @cached_property
    def meanings(self) -> Meanings:
        """What texts mean which label."""
        return Meanings(self.labels)

    def label_for(self, text: str | None) -> str | None:
        """The stored name of the label a text means.

        Args:
            text: A prompt's text, or the name a prompt's own control gave its label.

        Returns:
            The label whose value, alias or predicted value it is, whatever the capitals, singular or plural; else the
            only label there is; else None.
        """
        if text is not None and (meant := self.meanings.find(text)):
            return meant.stored_name
        return self.labels[0].stored_name if len(self.labels) == 1 else None

    def outputs_for(self, label: str | None) -> tuple[Output, ...]:
        """The controls that a mask with this label is written to: all that have the label, else the first."""
        return tuple(output for output in self.outputs if output.has(label)) or self.outputs[:1]

    @cached_property
    def signature(self) -> str:
        """Everything here that changes a prediction, as text; colours, order and white space do not.

        What matters to an annotator's own prompts alone is left out: predictions by labels need no new run for it.
        """
        outputs = sorted(
            [
                *(output.name, output.kind, output.labels_name or ""),
                *(str(output.smooth_px), str(output.tolerance_px)),
                *sorted(label.signature for label in output.labels),
            ]
            for output in self.outputs
        )
        tuning = self.tuning._replace(max_regions=self.tuning.max_regions or DEFAULT_MAX_REGIONS, multimask=None)
        return json.dumps([self.image_name, self.data_key, outputs, tuning._asdict()])


@lru_cache(maxsize=256)
def _parse(xml: str) -> LabelConfig:
    tags = read_tags(xml)
    images = [tag for tag in tags if tag.kind == "image"]
    if not images:
        raise InvalidLabelConfig(f"The labelling config has no Image tag. Add {EXAMPLE_IMAGE}.")
    controls = [tag for tag in tags if "toname" in tag.attributes]
    image = _image_of(tags, images)
    tied = [tag for tag in controls if image.name in tag.to_names]
    for tag in tied:
        tag.check()
    return LabelConfig(
        image_name=image.name,
        data_key=_data_key(image),
        outputs=_outputs(tied),
        message=_message(controls),
        not_prompts=frozenset(tag.name for tag in controls if tag not in tied or _is_text_for_people(tag)),
        tuning=read_tuning((str(tag), tag.attributes) for tag in [image, *tied]),
        modes={tag.name: tag["model_mode"] for tag in tied if tag.kind in RECTANGLES and tag["model_mode"]},
        parameters=parameter_controls(tied),
    )


def message_control(xml: str) -> MessageControl | None:
    """Where the annotator can be told things, also in a labelling config that cannot be used for anything else."""
    try:
        return _message([tag for tag in read_tags(xml) if "toname" in tag.attributes])
    except InvalidLabelConfig:
        return None


def _message(controls: Sequence[Tag]) -> MessageControl | None:
    for tag in controls:
        if tag.kind == "textarea" and tag["model_message"]:
            return MessageControl(tag.name, tag.to_names[0])
    return None


def _image_of(tags: Sequence[Tag], images: Sequence[Tag]) -> Tag:
    """The picture that masks are written on."""
    written = output_tags(tags)
    if not written:
        raise InvalidLabelConfig(f"The labelling config has no control to write masks to. Add {EXAMPLE_OUTPUT}.")
    for output in written:
        if not output.name:
            raise InvalidLabelConfig(f'{output.element.tag} needs a name, for example name="brush".')
        for image in images:
            if image.name and image.name in output.to_names:
                return image
    raise InvalidLabelConfig(
        f'{written[0]}: toName must name the Image tag; write toName="{images[0].name or "image"}".'
    )


def _data_key(image: Tag) -> str:
    value = image.attributes.get("value", "")
    if not re.fullmatch(r"\$\S+", value):
        raise InvalidLabelConfig(f'{image}: value must name a field of the task; write for example value="$image".')
    return value[1:]


def _outputs(tied: Sequence[Tag]) -> tuple[Output, ...]:
    """The controls that masks of a picture are written to.

    Several controls that are all smart were not made to be written to together: of those, each label takes the first.
    """
    tags = output_tags(tied)
    outputs = [read_output(tag, tied) for tag in tags]
    if not tags[0].is_smart or any(tag["model_output"] for tag in tags):
        return tuple(outputs)
    taken: set[str] = set()
    first: list[Output] = []
    for output in outputs:
        names = {label.stored_name for label in output.labels}
        if not first or names - taken:
            first.append(output)
        taken |= names
    return tuple(first)


def _is_text_for_people(tag: Tag) -> bool:
    """Whether a control is a TextArea that is not for prompts: our messages, notes on a region, switched off."""
    is_off = tag.attributes.get("smart", "").lower() == "false"
    return tag.kind == "textarea" and (bool(tag["model_message"]) or tag.is_set("perregion") or is_off)
