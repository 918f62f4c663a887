"""One offline HTML page from the artefacts of a study."""

from twobe3.report.page import write_report

__all__ = ["write_report"]
