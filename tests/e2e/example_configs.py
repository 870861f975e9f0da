"""The labelling configs in ``examples/``, with labels that the demo checkpoint knows in the place of real work's."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

# What stands in an example, and what the pictures of the tests show instead.
IN_SHAPES = {
    "click": {},
    "tags": {"car, truck, bus": "circle, star", 'value="Person"': 'value="square"', "tree, bush": "triangle, cross"},
    "similar": {},
    "polygons": {'"car"': '"circle"', '"person"': '"square"', '"dog"': '"ring"'},
    "boxes": {'"car"': '"circle"', '"person"': '"square"', '"dog"': '"triangle"'},
    "captions": {"fork, knife, spoon": "triangle"},
}


def in_shapes(example: str) -> str:
    """An example's labelling config for pictures of shapes.

    Raises:
        ValueError: The example no longer says what is to be replaced.
    """
    xml = (EXAMPLES / example / "label_config.xml").read_text()
    for words, shapes in IN_SHAPES[example].items():
        if words not in xml:
            raise ValueError(f"examples/{example} no longer has {words}")
        xml = xml.replace(words, shapes)
    return xml
