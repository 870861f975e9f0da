"""Takes the pictures in ``docs/images`` anew, from the real page: ``python -m tests.e2e.screenshots``.

For when the recommended labelling config, or Label Studio's page, no longer looks as they show it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from examples.studio.__main__ import LABEL_CONFIG, ROOT
from examples.studio.backend import start_backend
from examples.studio.label_studio import Studio
from examples.studio.pictures import sample_drawings
from tests.e2e.conftest import CHROMIUM_FLAGS
from tests.e2e.labelling_page import LabellingPage

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Label sample pictures and keep what the page shows on the way."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_backend(Path(folder) / "backend.log", env={"MODEL_CHECKPOINT": "demo"}) as backend,
        Studio.start(Path(folder) / "studio", template=ROOT / ".studio" / "empty.sqlite3") as studio,
        sync_playwright() as playwright,
    ):
        project = studio.create_project("Shapes", LABEL_CONFIG.read_text(), predict_on_open=False)
        project.connect(backend.url)
        pictures = {name: drawing.file(name) for name, drawing in sample_drawings().items()}
        message_task, masks_task, *_ = project.upload(pictures)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1320, "height": 930})
        page.set_default_timeout(60_000)
        labelling = LabellingPage(page, studio)
        labelling.log_in()

        labelling.open(project, masks_task, (800, 600))
        labelling.switch_auto_annotation_on()
        for label, x_px, y_px in [("star", 200, 230), ("circle", 520, 140), ("cross", 270, 470)]:
            labelling.choose("point", label)
            labelling.click(x_px, y_px)
            labelling.accept()
        labelling.choose("point", "circle")
        labelling.click(560, 400)
        page.screenshot(path=IMAGES / "masks.png")

        labelling.open(project, message_task, (800, 600))
        labelling.ask("zebra")
        expect(labelling.message).to_be_visible()
        editor = page.locator(".lsf-main-content").bounding_box()
        assert editor
        page.screenshot(path=IMAGES / "message.png", clip={**editor, "height": 260})
        browser.close()


if __name__ == "__main__":
    main()
