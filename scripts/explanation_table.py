"""What the checks of a study's maps gave, in Markdown.

    python scripts/explanation_table.py RESULTS

RESULTS is the folder of a study that was run with ``[report] explain``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from twobe3.evaluation.explanations import EXPLANATIONS, RECORD, Explanations, MapRecord


def table(maps: Sequence[MapRecord]) -> list[str]:
    """For each model how many maps passed, and of each check the median, the range, and how many failed it."""
    lines = ["| model | maps | check | median (range) | failed |", "|---|---|---|---|---|"]
    for model in dict.fromkeys(one.model for one in maps):
        own = [one for one in maps if one.model == model]
        lines.append(f"| {model} | {len(own)} | all | | {sum(not one.passed for one in own)} |")
        for name in dict.fromkeys(check.name for one in own for check in one.checks):
            checks = [check for one in own for check in one.checks if check.name == name]
            values = [check.value for check in checks if check.value is not None]
            spread = f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
            decides = any(check.passed is not None for check in checks)
            failed = sum(check.passed is False for check in checks) if decides else "decides nothing"
            lines.append(f"| | {len(values)} | {name} | {spread} | {failed} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    record = Explanations.read(parser.parse_args().results / EXPLANATIONS / RECORD)
    print("\n".join(table(record.maps)))


if __name__ == "__main__":
    main()
