"""The configs in ``examples/`` with labels that the demo checkpoint knows, and pictures for them."""

from __future__ import annotations

from pathlib import Path

from examples.studio.pictures import Drawing, Shape

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


DRAWING = Drawing(
    (
        Shape("circle", "red", (200, 190), 110),
        Shape("square", "blue", (560, 210), 130),
        Shape("triangle", "green", (380, 450), 120),
    )
)
ALIKE = Drawing(
    (
        Shape("circle", "red", (200, 190), 110),
        Shape("square", "blue", (560, 170), 100),
        Shape("circle", "red", (660, 430), 90),
        Shape("triangle", "green", (420, 440), 90),
        Shape("circle", "red", (170, 470), 80),
    )
)
"""Three of a kind, and others."""
