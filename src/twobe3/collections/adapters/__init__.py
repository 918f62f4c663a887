"""Adapters: the files of a collection, as published, read as a clinical table with its endpoints.

A new one is a module that makes an :class:`Adapter`, and its name in :data:`ADAPTERS`; that of another distribution is
an entry point in the group ``twobe3.collections``.
"""

from __future__ import annotations

from pathlib import Path

from twobe3.collections.adapters import (
    acrin_nsclc_fdg_pet,
    autopet_fdg,
    head_neck_pet_ct,
    nsclc_radiogenomics,
    soft_tissue_sarcoma,
)
from twobe3.collections.adapters._adapter import CENTRE, PATIENT, ROI, SPLIT, AdaptedTable, Adapter
from twobe3.collections.adapters.hecktor import HECKTOR_2021, HECKTOR_2022, HECKTOR_2025
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import name_nearest
from twobe3.core.plugins import PluginRegistry, require_instance
from twobe3.io.csv import to_csv
from twobe3.io.files import write_atomic

__all__ = ["ADAPTERS", "CENTRE", "PATIENT", "ROI", "SPLIT", "AdaptedTable", "Adapter", "get_adapter", "write_table"]

_OWN = {
    adapter.name: adapter
    for adapter in (
        head_neck_pet_ct.ADAPTER,
        HECKTOR_2021,
        HECKTOR_2022,
        HECKTOR_2025,
        soft_tissue_sarcoma.ADAPTER,
        nsclc_radiogenomics.ADAPTER,
        acrin_nsclc_fdg_pet.ADAPTER,
        autopet_fdg.ADAPTER,
    )
}
ADAPTERS = PluginRegistry("twobe3.collections", "collection", require_instance(Adapter, named=True), _OWN)


def get_adapter(name: str) -> Adapter:
    """The adapter of a collection.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``, naming the nearest.
    """
    if name not in ADAPTERS:
        reason = f"no adapter reads the collection {name!r}; {name_nearest(name, ADAPTERS)}"
        remedy = "any other collection is read as a table with one row a patient"
        raise ConfigurationError(Code.UNKNOWN_NAME, reason, remedy=remedy)
    return ADAPTERS[name]


def write_table(adapted: AdaptedTable, path: Path) -> None:
    """Write an adapted table as comma-separated text, one row a patient, atomically.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    rows = ([row[column] for column in adapted.columns] for row in adapted.table.values())
    write_atomic(path, to_csv([adapted.columns, *rows]))
