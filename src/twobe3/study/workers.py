"""Which workers a study has: processes of this machine, or those of a cluster."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twobe3.io.files import remove_partials
from twobe3.io.pseudonym import KEY_VARIABLE, key_file
from twobe3.runtime.cluster import connect
from twobe3.runtime.device import Device
from twobe3.runtime.jobs import start_jobs
from twobe3.runtime.local_pool import LocalWorkers
from twobe3.runtime.parallel import Workers
from twobe3.runtime.process import available_cores
from twobe3.study.compute_section import ComputeSection

FOLDER = "cluster"
"""In the output folder, what workers of a cluster print; nothing in it is a result."""


@contextmanager
def open_workers(section: ComputeSection, asked: int | None, device: Device, out: Path) -> Iterator[Workers]:
    """The workers of a study, the same ones for all that it does; they end or are given back with the block.

    Parameters
    ----------
    section : ComputeSection
        What the study file says.
    asked : int, optional
        Processes of this machine, instead of what it says.
    device : Device
        Where networks compute.
    out : Path
        The output folder.

    Raises
    ------
    EnvironmentFailure
        ``CLUSTER_LOST``, ``EXTRA_MISSING``.
    """
    if asked or section.scheduler == "local":
        try:
            with LocalWorkers(asked or device.workers(available_cores())) as workers:
                yield workers
        except BaseException:
            remove_partials(out)  # of workers that were ended while they wrote
            raise
        return
    logs = out / FOLDER
    logs.mkdir(parents=True, exist_ok=True)
    seen = logs / f".seen-{secrets.token_hex(8)}"
    how = {
        "gpu": device.kind == "cuda",
        "environment": {KEY_VARIABLE: str(key_file().absolute())},
        "patience_min": section.patience_min,
    }
    jobs = section.to_jobs()
    seen.touch()
    try:
        with start_jobs(jobs, logs, seen, **how) if jobs else connect(str(section.address), seen, **how) as cluster:
            yield cluster
    finally:
        seen.unlink(missing_ok=True)
