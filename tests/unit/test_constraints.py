"""What is installed is what was tested: one exact version of everything that the project asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in LINES)}


def test_every_line_is_one_version_of_any_build() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert len(pinned()) == len(LINES)


def test_every_requirement_is_pinned_to_a_version_that_satisfies_it() -> None:
    extras = PROJECT["optional-dependencies"].values()
    asked = [Requirement(each) for each in [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]]
    others = [each for each in asked if each.name != PROJECT["name"] and not each.url]  # an address names its commit
    assert len(others) > 25
    versions = pinned()
    wrong = [
        str(each) for each in others if not each.specifier.contains(versions.get(canonicalize_name(each.name), "0"))
    ]
    assert wrong == []


def test_make_installs_these_versions() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "CONSTRAINTS := --constraint constraints.txt" in makefile
    installs = [line for line in makefile.splitlines() if "--editable" in line]
    assert len(installs) == 2
    assert all("$(CONSTRAINTS)" in line for line in installs)
