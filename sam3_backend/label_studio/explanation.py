"""A labelling config in plain words: what each of its controls will do.

For people who connect a project. Knows what ``LabelConfig`` makes of a config; changes nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_backend.label_studio.controls import RECTANGLES, Tag, read_tags
from sam3_backend.label_studio.label_config import LabelConfig
from sam3_backend.label_studio.tuning import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sam3_backend.label_studio.controls import Output

WRITTEN_AS = {
    "brush": "as a brush mask",
    "bitmask": "as a bitmask",
    "polygon": "as polygons, one for each part",
    "vector": "as closed vectors, one for each part",
    "rectangle": "as the box around it",
    "ellipse": "as the ellipse that fits it",
}
BY_HAND = "is left to people"
RECTANGLES_ASK = {
    "segment": "a box cuts out the object in it",
    "exemplar": "a box around one finds all that look like it",
    "negative_exemplar": "a box says that nothing like it is meant; it needs a box from the exemplar control, too",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A config in plain words.

    Attributes:
        controls: Of each tag its name for people and what it will do.
        advice: What works but may not be meant.
    """

    controls: tuple[tuple[str, str], ...]
    advice: tuple[str, ...]


def explain(xml: str) -> Explanation:
    """Say what a labelling config will do.

    Raises:
        InvalidLabelConfig: It cannot be used.
    """
    config = LabelConfig.parse(xml)
    tags = [tag for tag in read_tags(xml) if tag.name]
    controls = [(str(tag), f"{_what_it_does(tag, config)}.") for tag in tags if _matters(tag, config)]
    return Explanation(tuple(controls), tuple(_advice(tags, config)))


def asks(tag: Tag, shape: str, config: LabelConfig) -> bool:
    """Whether a tag is a smart control of a shape on the config's picture."""
    return tag.kind in {shape, f"{shape}labels"} and tag.is_smart and config.image_name in tag.to_names


def takes_text(tag: Tag, config: LabelConfig) -> bool:
    """Whether a tag is a TextArea for prompts."""
    return tag.kind == "textarea" and tag.name not in config.not_prompts


def _matters(tag: Tag, config: LabelConfig) -> bool:
    return tag.name == config.image_name or "toname" in tag.attributes


def _what_it_does(tag: Tag, config: LabelConfig) -> str:
    if tag.name == config.image_name:
        return f'pictures come from the task\'s field "{config.data_key}"'
    uses = [
        *_questions(tag, config),
        *(_writes(output, config) for output in config.outputs if output.name == tag.name),
    ]
    return "; ".join(uses) or BY_HAND


def _questions(tag: Tag, config: LabelConfig) -> Iterator[str]:
    if config.message is not None and tag.name == config.message.name:
        yield "here annotators read why a prompt gave nothing"
    elif tag.name in config.parameters:
        yield f"what is answered sets {config.parameters[tag.name].replace('_', ' ')} for the next text prompts"
    elif takes_text(tag, config):
        yield "a text finds all that it means; semicolons part several"
    elif asks(tag, "keypoint", config):
        yield "a click cuts out the object there; Alt+click says what does not belong to it"
    elif asks(tag, "rectangle", config):
        yield RECTANGLES_ASK[config.modes.get(tag.name, "segment")]


def _writes(output: Output, config: LabelConfig) -> str:
    words = f"each object is written here {WRITTEN_AS[output.kind.removesuffix('labels')]}"
    if config.tuning.prompt_field is not None:
        return f'{words}; predictions look for what the task\'s field "{config.tuning.prompt_field}" says'
    if not output.labels:
        return f"{words}, without a label"
    looked_for = ", ".join(
        f'"{text}"' if text == label.stored_name else f'"{text}" ({label.stored_name})'
        for label in output.labels
        for text in label.texts
    )
    return f"{words}; predictions look for {looked_for}"


def _advice(tags: list[Tag], config: LabelConfig) -> Iterator[str]:
    for tag in tags:
        for name in sorted(each for each in tag.attributes if each.startswith("model_") and each not in ATTRIBUTES):
            meant = difflib.get_close_matches(name, ATTRIBUTES, n=1)
            yield f"{tag}: {name} is not known here{f'; is {meant[0]} meant?' if meant else ''}."
    for label in config.labels:
        names = [output.name for output in config.outputs_for(label.stored_name)]
        if len(names) > 1:
            yield (
                f'Each "{label.value}" is written {len(names)} times, to {", ".join(names)}. Put model_skip="true" on '
                "those that are only for drawing by hand."
            )
            break
    known = {name for label in config.labels for name in (label.value, label.stored_name)}
    for tag in tags:
        if asks(tag, "keypoint", config) or asks(tag, "rectangle", config):
            inside = {each.get("value", "") for each in tag.element if each.tag.lower() == "label"}
            for value in sorted(inside - known):
                yield f'{tag}: no output has the label "{value}"; what it finds gets no label.'
    if config.message is None and any(asks(tag, shape, config) for tag in tags for shape in ("keypoint", "rectangle")):
        yield "There is no message control: when a prompt gives nothing, the page will not say why."
    if any(tag.kind not in RECTANGLES and tag.is_smart and tag.shape for tag in tags):
        yield 'Smart brushes, polygons and the like send nothing to a model: write smart="false".'
