"""Which modules one DICOM series goes through to SUV, or a study to its report: docs/explanation/architecture.md.

python scripts/trace_modules.py series FOLDER
python scripts/trace_modules.py study STUDY.toml OUT
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import twobe3 as tb

ROOT = Path(tb.__file__).parent


def trace(function: Callable[[], object]) -> list[str]:
    """The modules whose functions run, in the order in which they are entered first."""
    entered: dict[str, None] = {}

    def enter(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if (
            event == "call"
            and path.suffix == ".py"
            and path.is_relative_to(ROOT)
            and frame.f_code.co_name != "<module>"
        ):
            entered.setdefault(".".join(path.relative_to(ROOT).with_suffix("").parts))

    sys.setprofile(enter)
    try:
        function()
    finally:
        sys.setprofile(None)
    return list(entered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["series", "study"])
    parser.add_argument("path", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    asked = parser.parse_args()
    read_suv, run = tb.read_suv, tb.run  # imported here, so that no import is traced
    if asked.what == "series":
        modules = trace(lambda: read_suv(asked.path))
    else:
        modules = trace(lambda: run(asked.path, asked.out, workers=1))
    print(f"{len(modules)} modules: {' → '.join(modules)}")


if __name__ == "__main__":
    main()
