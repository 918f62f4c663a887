"""Print the table of a study folder as Markdown, for docs/results.md and the README.

python scripts/results_table.py results/ [--endpoint NAME]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--endpoint", help="of several; the first by default")
    asked = parser.parse_args()
    results = json.loads((asked.folder / "evaluation.json").read_text())["models"]
    seconds = {
        model["name"]: model["seconds"] for model in json.loads((asked.folder / "run.json").read_text())["models"]
    }
    endpoint = asked.endpoint or results[0]["endpoint"]
    judged = [result for result in results if result["endpoint"] == endpoint]
    primary, *others = [metric["name"] for metric in judged[0]["metrics"][:2]]
    print(f"| model | {primary} (95 %) | {''.join(f'{name} (95 %) | ' for name in others)}n | events | seconds |")
    print(f"|---|---|{'---|' * len(others)}---|---|---|")
    for result in sorted(judged, key=lambda result: -(result["metrics"][0]["value"] or 0.0)):
        cells = [_cell(metric) for metric in result["metrics"][: 1 + len(others)]]
        spent = f"{seconds[result['model']]:.0f}"
        print(f"| {result['model']} | {' | '.join(cells)} | {result['n']} | {result['events']} | {spent} |")


def _cell(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return "not estimable"
    if metric["low"] is None:
        return f"{metric['value']:.2f}"
    return f"{metric['value']:.2f} ({metric['low']:.2f}–{metric['high']:.2f})"


if __name__ == "__main__":
    main()
