"""The report of an assessment as one HTML file, beside the assessment."""

from __future__ import annotations

from pathlib import Path

from hooke.results import write_atomic
from hooke.safety.report import read_report
from hooke.viewer.html import html_page

REPORT = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write `folder`/report.html: the report with all its evidence inside, no request, nothing to install.

    Raises HookeError, naming the sentence and the evidence, if any of it is missing, altered or of another assessment
    (`hooke.safety.report.read_report`), and if the file would be too large to mail.
    """
    assessment, evidence = read_report(folder)
    path = Path(folder) / REPORT
    write_atomic(path, html_page([assessment, *evidence.values()]).encode("utf-8", "replace"))
    return path
