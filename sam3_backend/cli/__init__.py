"""The command line, ``sam3-backend``: one module per command.

A command's module says what it takes (``add_to``) and does it (``run``); what is slow to import is imported when a
command runs. Exit codes: 0 all done, 1 some work failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import sam3_backend
from sam3_backend.cli import connect, doctor, import_, preannotate, segment, serve, warm
from sam3_backend.errors import BackendError, InvalidPrompt
from sam3_backend.settings import let_waiting_threads_sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (serve, segment, connect, preannotate, import_, warm, doctor)

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; None for this process's own.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="sam3-backend",
        description="Label Studio ML backend around SAM 3: text, keypoints and rectangles in, masks out.",
        epilog="Settings are environment variables; every command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"sam3-backend {sam3_backend.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands).set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    let_waiting_threads_sleep()
    try:
        return int(options.run(options))
    except BackendError as fault:
        sys.stderr.write(f"sam3-backend: {fault.message}\n")
        return WRONG_USAGE if isinstance(fault, InvalidPrompt) else FAILED
    except KeyboardInterrupt:
        return FAILED
