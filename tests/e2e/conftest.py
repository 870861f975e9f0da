"""One real Label Studio, one real backend and one real browser for all end-to-end tests.

A part that is missing fails the tests: what was not run was not tested.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from examples.studio.backend import start_backend
from examples.studio.label_studio import Studio
from tests.e2e.labelling_page import LabellingPage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from examples.studio.processes import Server

ROOT = Path(__file__).parents[2]

PATIENCE_MS = 60_000
"""On a busy machine the page takes its time; nothing here waits for longer than it must."""

expect.set_options(timeout=PATIENCE_MS)

# Loopback only, no graphics card, and nothing that calls home.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A fresh Label Studio with no project."""
    with Studio.start(tmp_path_factory.mktemp("studio"), template=ROOT / ".studio" / "empty.sqlite3") as running:
        yield running


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server on the demo checkpoint, as `make serve` starts it, without credentials for Label Studio."""
    settings = {"MODEL_CHECKPOINT": "demo", "REDIS_URL": "", "LABEL_STUDIO_URL": "", "LABEL_STUDIO_API_KEY": ""}
    with start_backend(tmp_path_factory.mktemp("backend") / "log", env=settings) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "There is no chromium. Debian: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def labelling(browser: Browser, studio: Studio) -> Iterator[LabellingPage]:
    """A new visitor, logged in, with Auto-Annotation still off."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    labelling = LabellingPage(context.new_page(), studio)
    labelling.log_in()
    yield labelling
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the browser showed when a test failed, and say where."""
    report = yield
    labelling = getattr(item, "funcargs", {}).get("labelling")
    if report.failed and call.when == "call" and labelling is not None:
        report.sections.append(("What the page showed", _screenshot(item, labelling.page)))
    return report


def _screenshot(item: pytest.Item, page: Page) -> str:
    folder: Path = item.config._tmp_path_factory.mktemp("screenshots", numbered=True)
    path = folder / f"{item.name}.png"
    page.screenshot(path=path)
    return f"{path}\n{page.url}"
