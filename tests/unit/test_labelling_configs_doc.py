"""docs/labelling-configs.md says what is so. Run as a program, this module writes its table of attributes anew."""

from __future__ import annotations

import re
from pathlib import Path

from sam3_backend.label_studio.controls import SHAPES
from sam3_backend.label_studio.parameters import CHOICES
from sam3_backend.label_studio.tuning import ATTRIBUTES, DEFAULT_MAX_REGIONS, PARAMETERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "labelling-configs.md"
TABLE = re.compile(
    r"(?<=<!-- attributes: written by `python tests/unit/test_labelling_configs_doc.py` -->\n).*?(?=<!-- end)",
    re.DOTALL,
)


def table() -> str:
    rows = ["| attribute | on | allowed | default | meaning |", "|---|---|---|---|---|"]
    for name, attribute in ATTRIBUTES.items():
        allowed = attribute.allowed.replace('"', "`")
        rows.append(f"| `{name}` | {attribute.place} | {allowed} | {attribute.default} | {attribute.meaning} |")
    return "\n".join(rows) + "\n"


def test_the_table_names_every_attribute_and_no_other():
    (written,) = TABLE.findall(DOCUMENT.read_text())
    assert written == table(), "run: python tests/unit/test_labelling_configs_doc.py"
    assert f"| {DEFAULT_MAX_REGIONS} |" in written


def test_every_output_and_parameter_is_named():
    text = DOCUMENT.read_text()
    for shape in SHAPES:
        assert f"`{shape.capitalize()}Labels`" in text
        assert f"`{shape.capitalize()}`" in text
    for parameter in PARAMETERS:
        assert f"`{parameter}`" in text
    for example in ("all instances", "best only", "segment", "cut out", "exemplar", "find all like this"):
        assert f"`{example}`" in text
        assert example in CHOICES


if __name__ == "__main__":
    DOCUMENT.write_text(TABLE.sub(lambda _: table(), DOCUMENT.read_text()))
