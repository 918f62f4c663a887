"""Pages in headless Chromium: what they show, complain of and ask for."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Browser, Page, sync_playwright
from skimage.io import imread

CHROMIUM = shutil.which("chromium")
# WebGL without a graphics card.
FLAGS = ("--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader")
Scheme = Literal["light", "dark"]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


class OpenPage:
    """A page that notes what it complains of and what it asks the network for."""

    def __init__(self, browser: Browser, where: Path | str, *, scheme: Scheme = "light", width: int = 1300) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(where if isinstance(where, str) else where.as_uri())

    def open_viewer(self) -> None:
        self.page.click("#viewer-open")
        self.page.wait_for_selector("#viewer-open", state="hidden", timeout=60_000)

    def settle(self) -> None:
        """Wait until what is to be drawn is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))")

    def screen(self) -> npt.NDArray[np.uint8]:
        """The viewer's picture, (height, width, RGB)."""
        self.settle()
        return np.asarray(imread(io.BytesIO(self.page.locator("#viewer-screen canvas").screenshot())))[..., :3]

    def serious(self) -> list[dict[str, Any]]:
        """What axe-core finds that keeps people from using the page."""
        self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run()")["violations"]
        return [
            {"rule": one["id"], "where": [node["html"][:200] for node in one["nodes"]]}
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
