"""How the server's log looks, and what never enters it.

Every line names the request it belongs to. Bodies and headers are not logged anywhere, so that no token can be; the
libraries that would log whole addresses (signed ones among them) are kept quiet.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The request this thread is answering."""

QUIET_LIBRARIES = ("httpx", "httpcore", "urllib3", "huggingface_hub", "filelock", "werkzeug", "PIL", "label_studio_sdk")


def configure(level: str) -> None:
    """Send the process's log to stderr, one line per event.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s [%(request_id)s] %(name)s: %(message)s"))
    handler.addFilter(name_request)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def name_request(record: logging.LogRecord) -> bool:
    """A log filter that lets everything pass and writes the request's name on it."""
    record.request_id = request_id.get()
    return True
