"""Takes ``docs/images/example-*.png`` anew, from the real page.

``python -m tests.e2e.example_screenshots [EXAMPLE]...``: each example's labelling config with labels for shapes, in
use. For when a config, or Label Studio's page, no longer looks as they show it.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from examples.studio.backend import start_backend
from examples.studio.label_studio import Studio
from examples.studio.pictures import Drawing, Shape
from tests.e2e.conftest import CHROMIUM_FLAGS, ROOT
from tests.e2e.example_configs import ALIKE, DRAWING, IN_SHAPES, in_shapes
from tests.e2e.labelling_page import LabellingPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

IMAGES = ROOT / "docs" / "images"
COLOURS = 96
RING = Drawing(
    (
        Shape("circle", "red", (190, 180), 110),
        Shape("square", "blue", (580, 170), 120),
        Shape("ring", "purple", (370, 420), 140),
    )
)


def click(page: LabellingPage) -> None:
    page.choose("point", "object")
    page.click(200, 190)


def similar(page: LabellingPage) -> None:
    page.choose("box", "object", view="like")
    page.drag(85, 75, 315, 305)


def polygons(page: LabellingPage) -> None:
    for label, x_px, y_px in (("square", 580, 170), ("ring", 370, 305)):
        page.choose("point", label)
        page.click(x_px, y_px)
        page.accept()
    page.choose("point", "circle")
    page.click(190, 180)


def boxes(page: LabellingPage) -> None:
    page.ask("circle; square")


def nothing(_page: LabellingPage) -> None:
    """The task comes with its predictions."""


SCENES: dict[str, tuple[Drawing, Callable[[LabellingPage], None]]] = {
    "click": (DRAWING, click),
    "tags": (DRAWING, nothing),
    "similar": (ALIKE, similar),
    "polygons": (RING, polygons),
    "boxes": (DRAWING, boxes),
    "captions": (DRAWING, nothing),
}


def main() -> None:
    """Use each example and keep what the page shows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_backend(Path(folder) / "backend.log", env={"MODEL_CHECKPOINT": "demo"}) as backend,
        Studio.start(Path(folder) / "studio", template=ROOT / ".studio" / "empty.sqlite3") as studio,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        page.set_default_timeout(60_000)
        labelling = LabellingPage(page, studio)
        labelling.log_in()
        for example in sys.argv[1:] or IN_SHAPES:
            drawing, use = SCENES[example]
            project = studio.create_project(f"Example {example}", in_shapes(example), predict_on_open=use is nothing)
            project.connect(backend.url)
            image = "data:image/png;base64," + base64.b64encode(drawing.png()).decode()
            (task,) = project.add_tasks([{"image": image, "caption": "food: circle\ntriangle"}])
            if use is nothing:
                project.retrieve_predictions()
            labelling.open(project, task, (800, 600))
            if use is not nothing:
                labelling.switch_auto_annotation_on()
            use(labelling)
            _keep(page, IMAGES / f"example-{example}.png")
        browser.close()


def _keep(page: Page, path: Path) -> None:
    """The editor without the list of tasks, in few colours: a drawing needs no more."""
    editor = page.locator(".lsf-main-content")
    expect(editor).to_be_visible()
    page.wait_for_load_state("networkidle")
    shown = Image.open(io.BytesIO(editor.screenshot())).convert("RGB")
    shown.quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
