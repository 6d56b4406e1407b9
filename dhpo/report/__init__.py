"""What a search found as one HTML file that needs nothing else: to be kept, sent and looked at anywhere."""

from __future__ import annotations

from dhpo.report.page import Report, make_report, write_report

__all__ = ["Report", "make_report", "write_report"]
