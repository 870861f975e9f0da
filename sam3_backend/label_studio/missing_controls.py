"""Adds to a labelling config the controls that prompts and answers need.

Leaves what is there as it is, to the letter, and adds before its end. Knows no project.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from sam3_backend.errors import InvalidLabelConfig
from sam3_backend.label_studio.controls import Tag, output_tags, read_tags
from sam3_backend.label_studio.explanation import asks, takes_text
from sam3_backend.label_studio.label_config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = re.compile(r"\s*</[^<>]+>\s*\Z")

_MESSAGE = """\
<Style>
  .sam3-message {{ display: block !important; }}
  .sam3-message .lsf-richtext, .sam3-message .lsf-textarea__actions {{ display: none; }}
  .sam3-message .lsf-textarea__region {{ background: #fff1d6; border-left: 4px solid #e08a00; }}
</Style>
<View className="sam3-message" visibleWhen="choice-selected" whenTagName="none">
  <Text name={status} value="Messages of the model"/>
  <TextArea name={message} toName={status} model_message="true" editable="false" maxSubmissions="0"/>
</View>"""


def with_missing_controls(xml: str) -> str:
    """A labelling config with a control for each thing that is missing.

    Clicks, boxes, texts, messages, and an output if there is none, with the labels that are there.

    Raises:
        InvalidLabelConfig: It cannot be used even so: there is no picture, for example.
    """
    tags = read_tags(xml)
    images = [tag for tag in tags if tag.kind == "image" and tag.name]
    if not images:
        LabelConfig.parse(xml)  # says what is missing
    if not output_tags(tags):
        name = _free_name("brush", tags)
        labels = _labels(tags) or ['<Label value="object"/>']
        xml = _appended(xml, [_control("BrushLabels", name, images[0].name, labels, smart="false")])
    config = LabelConfig.parse(xml)
    return _appended(xml, _prompts(read_tags(xml), config))


def _prompts(tags: Sequence[Tag], config: LabelConfig) -> list[str]:
    """Controls for the ways of asking that a config lacks."""
    added = []
    plain = config.outputs[0].labels_name != config.outputs[0].name
    labels = [] if plain else _labels(tags, config.outputs[0].name)
    for tag, shape, name in (("KeyPoint", "keypoint", "point"), ("Rectangle", "rectangle", "box")):
        if not any(asks(each, shape, config) for each in tags):
            kind, free = (tag if plain else f"{tag}Labels"), _free_name(name, tags)
            added.append(_control(kind, free, config.image_name, labels, smart="true", smartOnly="true"))
    if not any(takes_text(tag, config) for tag in tags):
        name, image = quoteattr(_free_name("prompt", tags)), quoteattr(config.image_name)
        added.append(
            f'<TextArea name={name} toName={image} rows="1" editable="true" maxSubmissions="1"'
            ' placeholder="What to look for"/>'
        )
    if config.message is None:
        names = {name: quoteattr(_free_name(name, tags)) for name in ("status", "message")}
        added.append(_MESSAGE.format(**names))
    return added


def _labels(tags: Sequence[Tag], name: str | None = None) -> list[str]:
    """The Label tags of one control, or of the first that has any, without what belongs to one control alone."""
    for tag in tags:
        if "toname" in tag.attributes and name in {None, tag.name}:
            found = [each for each in tag.element.iter() if each.tag.lower() == "label" and each.get("value")]
            if found:
                kept = ("value", "alias", "background")
                return [
                    "<Label "
                    + " ".join(f"{key}={quoteattr(each.attrib[key])}" for key in kept if key in each.attrib)
                    + "/>"
                    for each in found
                ]
    return []


def _control(kind: str, name: str, image: str, labels: Sequence[str], **attributes: str) -> str:
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    head = f"<{kind} name={quoteattr(name)} toName={quoteattr(image)} {written}"
    return "\n".join([f"{head}>", *(f"  {label}" for label in labels), f"</{kind}>"]) if labels else f"{head}/>"


def _free_name(name: str, tags: Sequence[Tag]) -> str:
    taken = {tag.name for tag in tags}
    names = [name, f"sam3_{name}", *(f"sam3_{name}_{number}" for number in range(2, len(tags) + 3))]
    return next(each for each in names if each not in taken)


def _appended(xml: str, controls: Sequence[str]) -> str:
    """A config with controls before its end."""
    if not controls:
        return xml
    end = _END.search(xml)
    if end is None:
        raise InvalidLabelConfig("The labelling config must end with a closing tag, for example </View>.")
    indented = "\n".join(f"  {line}" for control in controls for line in control.splitlines())
    return f"{xml[: end.start()]}\n{indented}\n{end.group().strip()}\n"
