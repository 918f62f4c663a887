"""Print what the weights of the shipped PET network say of themselves, as Markdown for docs/howto/pretraining.md.

    python scripts/describe_pet_lesions.py [--write docs/howto/pretraining.md]

``--write`` puts it between the two comments of that page.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from twobe3.features.backbones import BACKBONES
from twobe3.features.weights import WeightsSource

NAME = "pet-lesions"
FIGURES = {
    "lesion_dice": "lesions, Dice",
    "lesion_auc": "lesions, AUC of positions",
    "excess_r": "SUV above the surroundings, r",
    "denoised_r": "SUV without noise, r",
    "organ_accuracy": "organ, share of positions",
}


def describe() -> str:
    """What it was trained on, and its held-out figures as a table."""
    _, notes = WeightsSource.parse(BACKBONES[NAME].pretrained).read(NAME)
    reached = json.loads(notes["held_out"])
    slices = reached.pop("slices")
    head = ["held-out slices", *(f"{kind} ({slices[kind]})" for kind in reached)]
    rows = [
        [text, *(f"{one[key]:.3f}" if key in one else "–" for one in reached.values())] for key, text in FIGURES.items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return f"Trained on {notes['trained_on']}, by `{notes['made_by']}`.\n\n" + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    page = parser.parse_args().write
    print(describe())
    if page is not None:
        marks = re.compile(r"(<!-- describe_pet_lesions -->\n).*(\n<!-- end -->)", re.DOTALL)
        page.write_text(marks.sub(lambda found: found[1] + describe() + found[2], page.read_text()))


if __name__ == "__main__":
    main()
