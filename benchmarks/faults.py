"""How many faults at the writes of a small study lose something: kills, full disks, signals, flipped bytes.

Every fault is followed by the same command, which must leave the files of a run that nothing interrupted, to the byte.
``tests/study/test_faults.py`` holds a few of them; this does all, or every n-th.

    python -m benchmarks.faults [--every N] [--first N] [KIND …]
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults import DENIALS, Fault
from tests.sweeps import DAMAGES, PLACES, Sweep, read_contents

from twobe3.io.pseudonym import KEY_VARIABLE

Trial = Callable[[int], list[str]]
SIGNALS = ("SIGINT", "SIGTERM")


def list_kinds(sweep: Sweep) -> Iterator[tuple[str, int, Trial]]:
    """Each kind of fault with how many there are, and how one is tried."""
    writes = len(sweep.first.writes)
    updated = sweep.outs / "second"
    shutil.copytree(sweep.whole, updated)
    second = sweep.run(updated, second=True)
    contents = read_contents(updated)
    yield "kill", writes, lambda n: sweep.try_new(Fault(n, "SIGKILL"))
    yield "denial", writes, lambda n: sweep.try_new(Fault(n, DENIALS[n % 3]))
    yield "signal", writes, lambda n: sweep.try_new(Fault(n, SIGNALS[n % 2]))
    yield "kill of an update", len(second.writes), lambda n: sweep.try_update(Fault(n, "SIGKILL"), contents)
    yield "denial of an update", len(second.writes), lambda n: sweep.try_update(Fault(n, DENIALS[n % 3]), contents)
    yield "damage", len(DAMAGES) * PLACES, sweep.try_damage
    yield "damaged report", len(DAMAGES) * PLACES, sweep.try_report


def count_failures(kind: str, trials: Sequence[int], attempt: Trial) -> int:
    """Try each, print what does not hold, and count them."""
    failures = 0
    for n in trials:
        problems = attempt(n)
        failures += bool(problems)
        for problem in problems:
            print(f"{kind} {n}: {problem}", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    with TemporaryDirectory() as name:
        os.environ[KEY_VARIABLE] = str(Path(name) / "key")
        sweep = Sweep(Path(name))
        rows = []
        for kind, n, attempt in list_kinds(sweep):
            if not asked.kinds or kind in asked.kinds:
                trials, begin = range(asked.first, n, asked.every), time.perf_counter()
                failures = count_failures(kind, trials, attempt)
                rows.append(f"| {kind} | {n} | {len(trials)} | {failures} | {time.perf_counter() - begin:.0f} |")
                print(rows[-1], flush=True)
        print("\n| fault | places | tries | failures | s |\n|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
