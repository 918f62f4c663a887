"""The page as a person uses it, in headless Chromium against a server in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.browser import CHROMIUM, OpenPage, chromium
from tests.conftest import TinyCohort
from tests.deploy.web_bench import BOUND_S, MARKER, fit_small, left, run_server, write_identified, zip_folder

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def server(folder: Path, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Iterator[str]:
    model = fit_small(new_tiny_cohort(folder / "cohort").patients(12), folder)
    with run_server(model, folder / "serve", token=TOKEN) as (address, _):
        yield address


def log_in(page: Page, server: str) -> None:
    page.goto(server)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#upload")


def predict(page: Page, *files: Path, force: bool = False) -> None:
    page.set_input_files("#files", [str(file) for file in files])
    page.set_checked("#force", force)
    page.click("#send")
    page.wait_for_selector("#downloads", timeout=BOUND_S * 1000)


def test_a_phantom_and_a_real_scan_are_uploaded_and_read(
    browser: Browser, server: str, folder: Path, tiny_cohort: TinyCohort, real_data: Path
) -> None:
    scan = folder / f"{MARKER}.zip"
    scan.write_bytes(zip_folder(write_identified(tiny_cohort)))
    for width, scheme in ((1300, "light"), (400, "dark")):
        shown = OpenPage(browser, server, scheme=scheme, width=width)  # type: ignore[arg-type]
        page = shown.page
        assert page.url.endswith("/login")
        assert shown.serious() == []
        log_in(page, server)
        assert shown.serious() == []
        if width == 1300:
            predict(page, scan)
        else:  # voxels much finer than those of the training
            predict(page, *sorted((real_data / "sts" / "dicom" / "STS_001").rglob("*.dcm")), force=True)
            assert "SPACING_OUTSIDE" in page.inner_text("main")
        text = page.inner_text("body")
        assert "research use only" in text.lower()
        assert re.search(r"probability\s+[01]", text), text
        assert "percentile among 12 training patients" in text
        assert MARKER not in page.content()
        assert page.locator("svg.mip").count() == 4
        shown.open_viewer()
        assert shown.screen().std() > 5
        assert shown.serious() == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        with page.expect_download() as download:
            page.click("text=Page to print, PDF")
        assert Path(download.value.path()).read_bytes().startswith(b"%PDF")
        page.click("#delete")
        page.wait_for_selector("#upload")
        assert shown.complaints == []
        assert {url for url in shown.requests if not url.startswith((server, "data:"))} == set()
        page.context.close()
    assert not left(folder / "serve")
    assert not list((folder / "serve" / "jobs").iterdir())


def test_the_form_is_used_by_keyboard_and_says_what_is_wrong(browser: Browser, server: str, folder: Path) -> None:
    (folder / "bad.zip").write_bytes(b"no zip")
    shown = OpenPage(browser, server)
    page = shown.page
    log_in(page, server)
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    order = [reached.index(one) for one in ("twobe3", "Log out", "Choose a folder", "Choose files or a zip", "force")]
    assert order == sorted(order)
    page.set_input_files("#files", str(folder / "bad.zip"))
    page.focus("#send")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not(:empty)")
    assert page.inner_text("#problem").startswith("CORRUPT_FILE: a zip file cannot be read")
    assert page.get_attribute("#problem", "role") == "alert"
    page.click("text=Log out")
    page.wait_for_selector("#token")
    page.goto(server)
    assert page.url.endswith("/login")
    page.context.close()
