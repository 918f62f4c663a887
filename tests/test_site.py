"""The documentation site: built without a warning, whole, and at home without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from twobe3.core.codes import Code

DOCS = Path(__file__).parents[1] / "docs"
PARTS = ("tutorials", "howto", "reference", "explanation")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-W",
        "--keep-going",
        "-d",
        out / "doctrees",
        DOCS,
        out / "html",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def generated() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    import generated

    yield generated
    sys.path.remove(str(DOCS))


class Page(HTMLParser):
    """The anchors of a page, and whatever it loads when it is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        elif tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.loaded.append(str(values["src"]))
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(str(values["href"]))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_of_the_four_parts_is_built(site: Path) -> None:
    found = (path for ending in ("md", "ipynb") for path in DOCS.rglob(f"*.{ending}"))
    sources = {path.relative_to(DOCS).with_suffix("") for path in found if not {"_build", "_generated"} & {*path.parts}}
    assert {path.parts[0] for path in sources} == {"index", *PARTS}
    assert all((site / path.with_suffix(".html")).exists() for path in sources)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for target in page.loaded:
            if target.startswith("data:"):  # a picture in the page itself
                continue
            assert "//" not in target, f"{path.name} loads {target}"
            assert (path.parent / target.split("?")[0]).exists(), f"{path.name} loads {target}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_every_link_within_the_site_leads_to_something(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if ":" in target or "//" in target:
                continue
            reached = (path.parent / target).resolve() if target else path
            assert reached.exists(), f"{path.name} links to {link}"
            if anchor and reached in pages:
                assert anchor in pages[reached].anchors, f"{path.name} links to {link}"


def test_every_code_has_its_remedy_and_its_place(site: Path, generated: ModuleType) -> None:
    page = (site / "reference" / "codes.html").read_text(encoding="utf-8")
    text = generated.write_codes()
    for code in Code:
        assert f'id="{code.name.lower().replace("_", "-")}"' in page or f'id="{code.name.lower()}"' in page, code.name
        (part,) = re.findall(rf"^### `{code.name}`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert code.remedy in part
        assert re.search(r"\*\*Where:\*\* .*`\w+\.", part), f"no module names {code.name}"


def test_every_key_of_a_study_file_has_a_meaning(generated: ModuleType) -> None:
    keys = dict(generated.keys())
    assert {"cohort.images", "time-to-event.horizons", "region.fraction", "2be3-net.taps", "fusion.of"} < set(keys)
    assert [key for key, meaning in keys.items() if len(meaning) < 10] == []
