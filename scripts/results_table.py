"""Print the tables of a study folder as Markdown, for docs/explanation/results.md and the README.

python scripts/results_table.py results/ [--endpoint NAME] [--differences MODEL]
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
    parser.add_argument("--differences", metavar="MODEL", help="the paired differences of this model instead")
    asked = parser.parse_args()
    document = json.loads((asked.folder / "evaluation.json").read_text())
    endpoint = asked.endpoint or document["models"][0]["endpoint"]
    if asked.differences:
        _print_differences([one for one in document["comparisons"] if one["endpoint"] == endpoint], asked.differences)
        return
    run = json.loads((asked.folder / "run.json").read_text())
    seconds = {model["name"]: model["seconds"] for model in run["models"]}
    _print_models([one for one in document["models"] if one["endpoint"] == endpoint], seconds)


def _print_models(judged: list[dict[str, Any]], seconds: dict[str, float]) -> None:
    """The metric by which models are compared, and the primary one; the best model first."""
    names = list(dict.fromkeys([judged[0]["basis"]["metric"], judged[0]["metrics"][0]["name"]]))
    print(f"| model | {''.join(f'{name} (95 %) | ' for name in names)}n | events | seconds |")
    print(f"|---|{'---|' * len(names)}---|---|---|")
    rows = [({metric["name"]: metric for metric in one["metrics"]}, one) for one in judged]
    for metrics, one in sorted(rows, key=lambda row: -(row[0][names[0]]["value"] or 0.0)):
        cells = " | ".join(_cell(metrics[name]) for name in names)
        print(f"| {one['model']} | {cells} | {one['n']} | {one['events']} | {seconds[one['model']]:.0f} |")


def _print_differences(pairs: list[dict[str, Any]], model: str) -> None:
    """This model less each other one, the clearest first."""
    rows = []
    for pair in pairs:
        if model in (pair["model_a"], pair["model_b"]) and pair["difference"] is not None:
            sign = 1 if pair["model_a"] == model else -1
            other = pair["model_b"] if sign == 1 else pair["model_a"]
            low, high = sorted((sign * pair["low"], sign * pair["high"]))
            across = next(test["p"] for test in pair["tests"] if test["name"] == "corrected_t")
            rows.append((pair["p"], other, sign * pair["difference"], low, high, pair["n"], pair["p_holm"], across))
    print(f"| {model} minus | difference (95 %) | n | p | p, Holm | p across folds |")
    print("|---|---|---|---|---|---|")
    for p, other, value, low, high, n, holm, across in sorted(rows):
        shown = "–" if across is None else f"{across:.2g}"
        print(f"| {other} | {value:+.2f} ({low:+.2f} to {high:+.2f}) | {n} | {p:.2g} | {holm:.2g} | {shown} |")


def _cell(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return "not estimable"
    if metric["low"] is None:
        return f"{metric['value']:.2f}"
    return f"{metric['value']:.2f} ({metric['low']:.2f}–{metric['high']:.2f})"


if __name__ == "__main__":
    main()
