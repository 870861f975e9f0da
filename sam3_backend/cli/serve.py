"""``sam3-backend serve``: answer Label Studio until told to stop."""

from __future__ import annotations

import argparse
from typing import NoReturn

from sam3_backend.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Describe the command."""
    return commands.add_parser(
        "serve",
        help="answer Label Studio until told to stop",
        description="Load the model and answer Label Studio. Listens only once the model is warm.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="environment variables:\n" + describe_settings(),
    )


def describe_settings() -> str:
    """Every setting with its default and meaning, one per line."""
    return "\n".join(
        f"  {name.upper():<26} {field.description}" + ("" if field.default in (None, "") else f" [{field.default}]")
        for name, field in Settings.model_fields.items()
    )


def run(_options: argparse.Namespace) -> NoReturn:
    """Serve.

    Raises:
        SettingsError: A setting cannot be used.
        SystemExit: When the server ends.
    """
    from sam3_backend.server.wsgi import serve

    serve(Settings.from_environment())
