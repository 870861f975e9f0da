"""The README says what is so. Run as a program, this module writes the settings table anew."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sam3_backend import cli
from sam3_backend.settings import Settings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SETTINGS = re.compile(
    r"(?<=<!-- settings: written by `python tests/unit/test_readme.py` -->\n).*?(?=<!-- end)", re.DOTALL
)


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        rows.append(f"| `{name.upper()}` | {'' if default is None else f'`{default}`'} | {field.description} |")
    return "\n".join(rows) + "\n"


def tracked() -> list[Path]:
    """Every file of the repository, also one that is not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for line in listed.splitlines() if (ROOT / (path := Path(line))).exists()]


def tree() -> list[str]:
    """The paths of the README's file tree."""
    (block,) = re.findall(r"## What is where\n\n```\n(.*?)```", README.read_text(), re.DOTALL)
    paths, parents = [], [""]
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth + 1 :] = [parents[depth] + name]
        paths.append(parents[depth + 1])
    return paths


def test_settings_table_names_every_setting_and_no_other():
    (table,) = SETTINGS.findall(README.read_text())
    assert table == settings_table(), "run: python tests/unit/test_readme.py"


def test_file_tree_shows_every_room_and_no_other():
    shown = set(tree())
    rooms = {f"{path.parts[0]}/" for path in tracked() if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    for parent in ("sam3_backend", "tests"):
        inside = [path.relative_to(parent) for path in tracked() if path.is_relative_to(parent)]
        rooms |= {f"{parent}/{path.parts[0]}/" for path in inside if len(path.parts) > 1}
    rooms |= {str(path) for path in tracked() if path.match("sam3_backend/*.py") and path.name != "__init__.py"}
    assert shown == rooms


def test_command_line_shows_every_command():
    shown = set(re.findall(r"^sam3-backend ([a-z]+)", README.read_text(), re.MULTILINE))
    assert shown == {command.__name__.rpartition(".")[2].rstrip("_") for command in cli.COMMANDS}


def anchors(page: Path) -> set[str]:
    """What a link may name behind its ``#``: the page's headings, as GitHub spells them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in [ROOT / path for path in tracked() if path.suffix == ".md"]:
        links = re.findall(r"""(?:\]\(|src=")(?!https?:)([^)"#]*)(?:#([^)"]+))?""", page.read_text())
        for target, anchor in links:
            there = page.parent / target if target else page
            assert there.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not anchor or anchor in anchors(there), f"{page.relative_to(ROOT)} links to {target}#{anchor}"


if __name__ == "__main__":
    README.write_text(SETTINGS.sub(lambda _: settings_table(), README.read_text()))
