"""The report as a browser shows it: headless Chromium, without a graphics card."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.browser import CHROMIUM, OpenPage, Scheme, chromium

from twobe3.report import write_report
from twobe3.report.niivue import hash_script
from twobe3.report.stored_scans import StoredMap, StoredScan
from twobe3.report.viewer import ViewerCase, viewer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

HOSTILE = "</script><!--<script>alert('PET')</script>"
SHAPE, SPACING_MM = (40, 30, 30), (5.0, 5.0, 5.0)
HOT, LEFT, HEAD, FRONT = 9.0, 5.0, 6.0, 7.0
DENSE_HU = 85.0


def case(label: str, middle: tuple[int, int, int], *, with_ct: bool = False) -> ViewerCase:
    """A hot voxel in the middle of a contour; two voxels to the left, to the head and to the front other values."""
    suv = np.full(SHAPE, 0.5, np.float32)
    z, y, x = middle
    suv[z, y, x], suv[z, y, x + 2], suv[z + 2, y, x], suv[z, y - 2, x] = HOT, LEFT, HEAD, FRONT
    contour = np.zeros(SHAPE, np.bool_)
    contour[z - 4 : z + 5, y - 4 : y + 5, x - 4 : x + 5] = True
    relevance = np.zeros(SHAPE, np.float32)
    relevance[z - 8 : z + 8, 2:8, 2:8], relevance[z - 8 : z + 8, y - 3 : y + 3, 20:26] = 0.02, -0.02
    relevance[z - 2 : z + 2, y - 6 : y - 3, 4:9] = 0.02
    hu = np.full(SHAPE, -1000.0, np.float32)
    hu[z - 6 : z + 6, y - 6 : y + 6, x - 6 : x + 6] = DENSE_HU
    scan = StoredScan(suv, SPACING_MM, contour, hu if with_ct else None)
    return ViewerCase(label, scan, StoredMap(relevance, -2 * relevance if with_ct else None))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with nothing but the viewer, under the content security policy of the report."""
    shown = viewer([case("pa-1", (20, 15, 12)), case(HOSTILE, (26, 10, 15)), case("pa-3", (20, 15, 12), with_ct=True)])
    css = "".join(
        (files("twobe3.report") / "templates" / name).read_text(encoding="utf-8") for name in ("page.css", "viewer.css")
    )
    scripts = " ".join(f"'{one}'" for one in shown.script_hashes)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{hash_script(css)}'; script-src {scripts};"
        " base-uri 'none'; form-action 'none'"
    )
    page = tmp_path_factory.mktemp("page") / "viewer.html"
    page.write_text(
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Viewer</title><style>{css}</style></head><body><main><h1>Scans</h1>{shown.html}</main></body></html>""",
        encoding="utf-8",
    )
    return page


@pytest.fixture
def look(browser: Browser, path: Path) -> Iterator[Callable[..., OpenPage]]:
    """Open the viewer's page; at the end nothing has complained, and nothing but the file was asked for."""
    opened: list[OpenPage] = []

    def open_page(**options: object) -> OpenPage:
        opened.append(OpenPage(browser, path, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_page
    for one in opened:
        assert one.complaints == []
        assert one.requests == [path.as_uri()]
        one.page.close()


def test_nothing_is_started_before_the_reader_asks(look: Callable[..., OpenPage]) -> None:
    page = look().page
    assert page.locator("script[type=module]").count() == 0
    assert not page.is_visible("#viewer-panel")


def test_scans_and_windows_look_different_and_none_is_blank(look: Callable[..., OpenPage]) -> None:
    shown = look()
    shown.open_viewer()
    first = shown.screen()
    shown.page.fill("#viewer-high", "1")
    darker = shown.screen()
    shown.page.fill("#viewer-high", "7")
    again = shown.screen()
    shown.page.select_option("#viewer-case", "1")
    second = shown.screen()
    assert first.std() > 5
    assert second.std() > 5
    assert darker.mean() < first.mean() - 10  # SUV 0.5 is grey half way to black
    np.testing.assert_array_equal(again, first)
    assert (second != first).any(axis=2).mean() > 0.01


def test_contour_and_map_are_drawn_and_can_be_turned_off(look: Callable[..., OpenPage]) -> None:
    shown = look()
    shown.open_viewer()
    both = shown.screen().astype(int)
    shown.page.uncheck("#viewer-contour")
    no_contour = shown.screen().astype(int)
    shown.page.uncheck("#viewer-map")
    neither = shown.screen().astype(int)

    def purple(picture: np.ndarray) -> int:
        return int(((picture[..., 0] > picture[..., 1] + 80) & (picture[..., 2] > picture[..., 1] + 60)).sum())

    bars = slice(0, int(0.85 * len(both)))  # below are the bars of the colours
    orange = (both[bars, :, 0] > both[bars, :, 2] + 60) & (both[bars, :, 1] > both[bars, :, 2] + 30)
    blue = (both[bars, :, 2] > both[bars, :, 0] + 60) & (both[bars, :, 1] > both[bars, :, 0] + 30)
    assert purple(both) > 200
    assert purple(no_contour) == purple(neither) == 0
    changed = (no_contour != neither).any(axis=2)[bars]
    assert orange.sum() > 200
    assert (blue & changed).sum() > 200


def test_keys_move_the_cross_as_the_patient_lies(look: Callable[..., OpenPage]) -> None:
    shown = look()
    shown.open_viewer()

    def value_after(*keys: str) -> str:
        for key in keys:
            shown.page.keyboard.press(key)
        return shown.page.inner_text("#viewer-value")

    shown.page.focus("#viewer-screen")
    assert value_after().startswith(f"At the cross: SUV {HOT:.2f}")
    left = ("ArrowRight", "ArrowRight")  # the patient's left is on the right
    assert value_after(*left).startswith(f"At the cross: SUV {LEFT:.2f}")
    assert value_after("ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowUp").startswith(f"At the cross: SUV {HEAD:.2f}")
    assert value_after("ArrowDown", "ArrowDown", "PageUp", "PageUp").startswith(f"At the cross: SUV {FRONT:.2f}")
    assert value_after("PageDown", "PageDown").startswith(f"At the cross: SUV {HOT:.2f}")


def test_pet_and_ct_are_shown_by_themselves_and_in_one(look: Callable[..., OpenPage]) -> None:
    shown = look()
    shown.open_viewer()
    page = shown.page
    page.select_option("#viewer-case", "2")
    expected = {
        "pet": f"At the cross: SUV {HOT:.2f}",
        "ct": f"At the cross: {DENSE_HU:.0f} HU",
        "fused": f"At the cross: {DENSE_HU:.0f} HU; SUV {HOT:.2f}",
    }
    seen = {}
    for name, said in expected.items():
        page.select_option("#viewer-image", name)
        page.wait_for_function(
            "([said]) => document.querySelector('#viewer-value').textContent.startsWith(said)", arg=[said]
        )
        seen[name] = shown.screen().astype(int)
    assert all((seen["pet"] != seen[name]).any(axis=2).mean() > 0.05 for name in ("ct", "fused"))
    page.select_option("#viewer-image", "ct")
    page.uncheck("#viewer-map")
    page.wait_for_timeout(200)
    soft = shown.screen().astype(int)
    page.select_option("#viewer-hu", label="bone")
    assert shown.screen().mean() < soft.mean() - 1  # 85 HU is brighter in the window of soft tissue
    page.select_option("#viewer-case", "0")  # without a CT
    page.wait_for_function("() => document.querySelector('#viewer-value').textContent.startsWith('At the cross: SUV')")


def test_the_patients_right_is_on_the_left_of_the_picture(look: Callable[..., OpenPage]) -> None:
    shown = look()
    shown.open_viewer()

    def cross_column() -> int:
        axial = shown.screen().astype(int)[:, :350]
        return int((axial[..., 2] > axial[..., 0] + 80).sum(axis=0).argmax())

    shown.page.uncheck("#viewer-map")
    before = cross_column()
    shown.page.focus("#viewer-screen")
    for _ in range(6):
        shown.page.keyboard.press("ArrowLeft")  # to the patient's right, as the test above says
    assert cross_column() < before - 10


def test_everything_is_reached_by_keys(look: Callable[..., OpenPage]) -> None:
    page = look().page
    page.focus("#viewer-open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer-open", state="hidden", timeout=60_000)
    reached = []
    for _ in range(8):
        reached.append(page.evaluate("() => document.activeElement.id"))
        page.keyboard.press("Tab")
    assert reached == [f"viewer-{name}" for name in ("case", "image", "hu", "low", "high", "contour", "map", "screen")]


def test_a_label_is_text(look: Callable[..., OpenPage]) -> None:
    assert look().page.locator("#viewer-case option").nth(1).text_content() == HOSTILE


def test_without_webgl_a_sentence_says_so(browser: Browser, path: Path) -> None:
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(path.as_uri())
    page.click("#viewer-open")
    assert page.inner_text("#viewer-status") == "This browser cannot draw the scans: the viewer needs WebGL 2."
    assert not page.is_visible("#viewer-panel")
    page.close()


@pytest.mark.parametrize("width", [1300, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_viewer(look: Callable[..., OpenPage], scheme: Scheme, width: int) -> None:
    shown = look(scheme=scheme, width=width)
    assert shown.serious() == []
    shown.open_viewer()
    assert shown.serious() == []
    assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_report(browser: Browser, study: Path, scheme: Scheme) -> None:
    shown = OpenPage(browser, write_report(study), scheme=scheme)
    assert shown.serious() == []
    assert shown.complaints == []
    assert len(shown.requests) == 1
    shown.page.close()
