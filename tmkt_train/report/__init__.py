"""The report of runs: one HTML file with numbers, curves, confusions and samples that loads nothing."""

from __future__ import annotations

from tmkt_train.report.page import write_report

__all__ = ["write_report"]
