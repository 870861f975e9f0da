"""Label Studio's labelling page, as an annotator uses it.

Coordinates are pixels of the upright picture. Every action waits for what it causes, and none for a length of time.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from playwright.sync_api import Locator, Page, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.label_studio import Project, Studio

Tool = Literal["point", "box"]

SMART_TOOLS = {"point": "key-point-tool", "box": "rectangle-tool"}


class LabellingPage:
    """One visitor's tab.

    Attributes:
        page: The tab.
    """

    def __init__(self, page: Page, studio: Studio) -> None:
        self.page = page
        self._studio = studio
        self._picture_px = (0, 0)

    def log_in(self) -> None:
        """Pass the login form."""
        self.page.goto(f"{self._studio.url}/user/login/")
        self.page.fill("input[name=email]", self._studio.username)
        self.page.fill("input[name=password]", self._studio.password)
        self.page.locator("button[type=submit]").click()
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open(self, project: Project, task_id: int, picture_px: tuple[int, int]) -> None:
        """Open a task and wait until it can be labelled.

        Args:
            project: Its project.
            task_id: Its id.
            picture_px: (width, height) of its upright picture.
        """
        self._picture_px = picture_px
        self.page.goto(project.labelling_url(task_id))
        expect(self._submit).to_be_enabled()
        expect(self._toolbar.first).to_be_visible()

    def switch_auto_annotation_on(self) -> None:
        """As an annotator does once per browser."""
        switch = self.page.get_by_test_id("bottombar-auto-annotation-toggle")
        switch.check(force=True)  # the visible half of the switch lies over the checkbox
        expect(self._smart_tools.first).to_be_visible()

    def choose(self, tool: Tool, label: str, *, view: str | None = None, nth: int = 0) -> None:
        """Pick a smart tool and a label for the next prompt.

        Args:
            tool: What to point with.
            label: The label's text.
            view: Class of the view that holds the label's control, after ``sam3-``; the tool's name by default.
            nth: Which of several smart tools of this kind, in the order of their controls in the config.
        """
        self._smart_tools.first.hover()
        named = self.page.locator(f'button.lsf-tool_smart[aria-label="{SMART_TOOLS[tool]}"]')
        # A smart tool that is the only one has no name.
        button = named.nth(nth) if self._smart_tools.count() > 1 else self._smart_tools.first
        button.click()
        wanted = self.page.locator(f".sam3-{view or tool} .lsf-label").filter(has_text=label)
        if "lsf-label_selected" not in (wanted.get_attribute("class") or ""):
            wanted.click()
        expect(wanted).to_contain_class("lsf-label_selected")

    def click(self, x_px: float, y_px: float, *, negative: bool = False) -> None:
        """Click on the picture and wait for the answer; ``negative`` holds Alt."""
        with self._answered():
            if negative:
                self.page.keyboard.down("Alt")
            self.page.mouse.click(*self._on_screen(x_px, y_px))
            if negative:
                self.page.keyboard.up("Alt")

    def drag(self, x1_px: float, y1_px: float, x2_px: float, y2_px: float) -> None:
        """Draw a box from one corner to the other and wait for the answer."""
        with self._answered():
            self.page.mouse.move(*self._on_screen(x1_px, y1_px))
            self.page.mouse.down()
            self.page.mouse.move(*self._on_screen((x1_px + x2_px) / 2, (y1_px + y2_px) / 2))
            self.page.mouse.move(*self._on_screen(x2_px, y2_px))
            self.page.mouse.up()

    def ask(self, text: str) -> None:
        """Type a text prompt, press Enter and wait for the answer."""
        field = self.page.locator(".sam3-prompt").get_by_test_id("textarea-input")
        field.fill(text)
        with self._answered():
            field.press("Enter")

    def accept(self) -> None:
        """Take the suggested masks over."""
        button = self.page.get_by_test_id("bottombar-accept-suggestions-button")
        button.click()
        expect(button).to_be_hidden()

    def submit(self) -> list[dict[str, Any]]:
        """Save the annotation.

        Returns:
            The saved annotation's regions.
        """
        with self.page.expect_response(lambda answer: _is_post(answer.request, "/annotations")) as saved:
            self._submit.click()
        assert saved.value.ok, saved.value.text()
        regions: list[dict[str, Any]] = saved.value.json()["result"]
        return regions

    @property
    def message(self) -> Locator:
        """The sentence the backend shows the annotator, if it shows one."""
        return self.page.locator(".sam3-message .lsf-textarea__region")

    @property
    def suggestions(self) -> Locator:
        """The bar that counts suggested masks, while there are any."""
        return self.page.get_by_test_id("bottombar-accept-suggestions-button")

    def hint(self) -> str:
        """What the message bar says while there is no message."""
        script = "element => getComputedStyle(element, '::before').content"
        return str(self.page.locator(".sam3-message").evaluate(script))

    @contextmanager
    def _answered(self) -> Iterator[None]:
        with self.page.expect_response(lambda answer: _is_post(answer.request, "/interactive-annotating")) as given:
            yield
        given.value.finished()
        expect(self.page.locator(".lsf-main-content.lsf-requesting")).to_have_count(0)

    def _on_screen(self, x_px: float, y_px: float) -> tuple[float, float]:
        shown = self.page.locator("canvas").first.bounding_box()
        assert shown, "the picture is not on the screen"
        width_px, height_px = self._picture_px
        return shown["x"] + x_px / width_px * shown["width"], shown["y"] + y_px / height_px * shown["height"]

    @property
    def _submit(self) -> Locator:
        return self.page.get_by_test_id("bottombar-submit-button")

    @property
    def _toolbar(self) -> Locator:
        return self.page.locator(".lsf-toolbar button")

    @property
    def _smart_tools(self) -> Locator:
        return self.page.locator(".lsf-toolbar button.lsf-tool_smart")


def _is_post(request: Any, ending: str) -> bool:
    path = request.url.partition("?")[0].rstrip("/")
    return request.method == "POST" and path.endswith(ending)
