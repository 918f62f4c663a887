"""How the site is built: `make docs`, or `python -m sphinx -W docs docs/_build`."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import figures  # noqa: E402  it stands beside this file
import generated  # noqa: E402
import notebooks  # noqa: E402

import twobe3  # noqa: E402

project = "twobe3"
author = "The twobe3 authors"
version = release = twobe3.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = ["_build", "_generated"]
myst_heading_anchors = 4
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the numpydoc sections say types, with shapes and units
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = "twobe3"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = html_show_copyright = False
html_copy_source = False


def draw_figures(app: Sphinx) -> None:
    """Draw what pages show under `_generated/`."""
    folder = HERE / "_generated"
    folder.mkdir(exist_ok=True)
    figures.draw_twobe3net(folder / "twobe3net.svg")


def fill_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what the code says in the place of `<!-- generated: NAME -->`; run a notebook."""
    path = Path(app.env.doc2path(docname))
    source[0] = notebooks.to_markdown(notebooks.run(path)) if path.suffix == ".ipynb" else generated.fill(source[0])


def write_inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """Formulas as MathML, which browsers show without a script."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """The same for a formula on a line of its own."""
    self.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (write_inline_math, None), (write_block_math, None))
    app.connect("builder-inited", draw_figures)
    app.connect("source-read", fill_page)
