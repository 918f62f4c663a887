"""Pictures of a report as a browser shows it: wide, narrow, dark, on paper, and with the viewer open.

``python scripts/screenshots.py RUN/report.html --out pictures`` needs Chromium and the extra ``dev``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

WIDE, NARROW = 1300, 400
# WebGL without a graphics card.
FLAGS = ("--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader")


def open_page(
    browser: Browser,
    report: Path,
    width: int = WIDE,
    scheme: Literal["light", "dark"] = "light",
    *,
    opened: bool = False,
) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("console", lambda message: print(f"the page says: {message.text}"))
    page.goto(report.resolve().as_uri())
    if opened:
        page.click("#viewer-open")
        page.wait_for_selector("#viewer-open", state="hidden")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 500)))")
    return page


def take(browser: Browser, report: Path, out: Path) -> None:
    for name, width, scheme in (("wide", WIDE, "light"), ("narrow", NARROW, "light"), ("dark", WIDE, "dark")):
        page = open_page(browser, report, width, scheme)  # type: ignore[arg-type]
        page.screenshot(path=out / f"{name}.png", full_page=True)
        needed = page.evaluate("() => document.documentElement.scrollWidth")
        print(f"{name}: {width} px wide, the page needs {needed}")
        page.close()
    page = open_page(browser, report)
    page.pdf(path=out / "paper.pdf", format="A4", print_background=True)
    has_viewer = page.locator("#viewer-open").count() > 0
    page.close()
    for width in (WIDE, NARROW) if has_viewer else ():
        page = open_page(browser, report, width, opened=True)
        page.locator("#viewer").screenshot(path=out / f"viewer-{width}.png")
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.exit(1, "Chromium is not installed: apt-get install chromium\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        take(browser, arguments.report, arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
