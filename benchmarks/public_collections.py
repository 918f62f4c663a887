"""How long it takes to index 100,000 PET series and to plan, and with how much memory.

The index is a synthetic one in the layout of idc-index-data: the PET series of the installed index over and over, under
UIDs and patients of their own, among as many rows of CT. For comparison, the installed index itself is planned. Each
is planned in a process of its own, whose largest resident memory is reported. Run::

    python benchmarks/public_collections.py [--series 100000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from twobe3.collections.index import COLLECTIONS, SERIES, find_installed_index, open_index
from twobe3.collections.plan import plan_collections


def write_index(folder: Path, series: int) -> None:
    """An index of PET series and as many CT series: copies of the installed one's rows under other UIDs."""
    installed = find_installed_index()
    (folder / COLLECTIONS).write_bytes((installed / COLLECTIONS).read_bytes())
    with duckdb.connect() as database:
        database.execute("SET enable_progress_bar = false")
        database.execute(
            f"""
            COPY (
                WITH pet AS (SELECT * FROM read_parquet('{installed / SERIES}') WHERE Modality = 'PT'),
                     copies AS (SELECT unnest(range({series} // (SELECT count(*) FROM pet) + 1)) AS copy),
                     many AS (
                        SELECT pet.* REPLACE (PatientID || '-' || copy AS PatientID,
                                              StudyInstanceUID || '.' || copy AS StudyInstanceUID,
                                              SeriesInstanceUID || '.' || copy AS SeriesInstanceUID)
                        FROM pet, copies ORDER BY copy, SeriesInstanceUID LIMIT {series})
                SELECT * FROM many
                UNION ALL SELECT * REPLACE ('CT' AS Modality, SeriesInstanceUID || '.1' AS SeriesInstanceUID) FROM many
            ) TO '{folder / SERIES}' (FORMAT parquet)"""
        )


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def measure(index: Path | None, out: Path) -> dict[str, Any]:
    """Seconds and memory of a plan, in this process; opening the index alone is timed before."""
    before = peak_memory_mib()
    began = time.perf_counter()
    opened = open_index(index)
    indexed = time.perf_counter() - began
    ((series,),) = opened.query("SELECT count(*) FROM pet")
    opened.database.close()
    began, busy = time.perf_counter(), time.process_time()
    selection = plan_collections(out, index=index)
    planned, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "series": series,
        "scans": len(selection.scans),
        "seconds to index": round(indexed, 2),
        "seconds to index, plan and write": round(planned, 2),
        "of them on the processor": round(busy, 2),
        "peak memory, MiB": round(peak_memory_mib()),
        "of it before the index was opened, MiB": round(before),
    }


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Linux hands the largest memory of a process on to its children: the writer must not be their parent."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_own_process(write_index, folder, arguments.series)
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "installed": in_own_process(measure, None, folder / "installed"),
            "synthetic": in_own_process(measure, folder, folder / "synthetic"),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
