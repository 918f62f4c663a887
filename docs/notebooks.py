"""Pages of notebooks: run where the site is built, so that what they show is what this version gives.

Notebooks are kept without outputs. One that was run lies under `_generated/` by the digest of its text and of the
package, and is run again when either changes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import nbformat
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).parent
KEPT = HERE / "_generated"
TIMEOUT_S = 600
KERNEL = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
STRICT = nbformat.v4.new_code_cell("import warnings; warnings.simplefilter('error')")


def run(path: Path) -> NotebookNode:
    """A notebook with its outputs, run unless that was done before."""
    kept = KEPT / f"{path.stem}.{_digest(path)}.ipynb"
    if not kept.exists():
        done = execute(path)
        KEPT.mkdir(exist_ok=True)
        for old in KEPT.glob(f"{path.stem}.*.ipynb"):
            old.unlink(missing_ok=True)
        nbformat.write(done, kept)
    return nbformat.read(kept, as_version=4)


def _digest(path: Path) -> str:
    """Of everything in this repository that the outputs depend on."""
    files = [path, Path(__file__), *sorted((HERE.parent / "src").rglob("*.py*"))]
    return sha256(b"\0".join(file.read_bytes() for file in files if file.suffix != ".pyc")).hexdigest()[:16]


def execute(path: Path) -> NotebookNode:
    """Run a notebook in an empty folder, in processes of its own; warnings and errors of a cell are raised."""
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder) / path.name
        command = [sys.executable, __file__, str(path.resolve()), str(done)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{path.name}: {ended.stderr}")
        return nbformat.read(done, as_version=4)


def _execute_here(path: Path, done: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    manager = KernelManager()  # not one that is installed for the user; it listens on the loopback interface alone
    manager._kernel_spec = KernelSpec(argv=KERNEL)
    notebook.cells.insert(0, STRICT)
    NotebookClient(notebook, km=manager, timeout=TIMEOUT_S).execute()
    del notebook.cells[0]
    nbformat.write(notebook, done)


def to_markdown(notebook: NotebookNode) -> str:
    """The cells of a notebook with their outputs, for MyST."""
    parts: list[str] = []
    for cell in notebook.cells:
        parts += [cell.source] if cell.cell_type == "markdown" else [_fence("python", cell.source), *_outputs(cell)]
    return "\n\n".join(parts) + "\n"


def _outputs(cell: NotebookNode) -> Iterator[str]:
    """What a cell prints, and its value; bars of progress are neither."""
    for output in cell.outputs:
        data = output.data if output.output_type == "execute_result" else {}
        if shown := data.get("text/html") or data.get("image/svg+xml"):
            yield _fence(
                "{raw} html",
                f'<div class="output">{shown[shown.find("<svg") :] if "<?xml" in shown[:9] else shown}</div>',
            )
        elif text := data.get("text/plain") or (output.get("name") == "stdout" and output.text):
            yield _fence("text", text.rstrip())


def _fence(language: str, text: str) -> str:
    return f"````{language}\n{text}\n````"


if __name__ == "__main__":
    _execute_here(Path(sys.argv[1]), Path(sys.argv[2]))
