"""The error tree is what its docstring draws."""

from __future__ import annotations

import re

from sam3_backend import errors
from sam3_backend.errors import BackendError

DRAWN_LINE = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: +(?P<status>\d{3}))?(?: {2}\S.*)?$")


def drawn() -> list[tuple[str, str, int | None]]:
    """(name, parent's name, status) of every class in the docstring."""
    found = []
    ancestors: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = DRAWN_LINE.match(line[4:]) if line.startswith("    ") else None
        if match:
            depth = len(match["branch"]) // 4
            ancestors[depth] = match["name"]
            found.append(
                (match["name"], ancestors.get(depth - 1, ""), int(match["status"]) if match["status"] else None)
            )
    return found


def tree(root: type[BackendError]) -> list[type[BackendError]]:
    return [
        root,
        *(each for child in root.__subclasses__() if child.__module__ == root.__module__ for each in tree(child)),
    ]


def test_the_docstring_draws_every_error_under_its_parent() -> None:
    real = {each.__name__: each.__bases__[0].__name__ for each in tree(BackendError)[1:]}
    assert {name: parent for name, parent, _ in drawn() if parent} == real


def test_the_docstring_tells_the_status_of_every_error_that_is_raised() -> None:
    statuses = {name: status for name, _, status in drawn() if status}
    assert {name: getattr(errors, name).http_status for name in statuses} == statuses
    leaves = {each.__name__ for each in tree(BackendError) if not each.__subclasses__()}
    assert leaves <= statuses.keys()


def test_codes_are_distinct_and_in_snake_case() -> None:
    codes = [each.code for each in tree(BackendError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_only_faults_that_may_pass_are_retryable() -> None:
    assert all(each.http_status in {500, 502, 503} for each in tree(BackendError) if each.retryable)


def test_the_message_is_what_was_raised_with() -> None:
    assert errors.ImageTooLarge("Too many pixels.").message == "Too many pixels."
