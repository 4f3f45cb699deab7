"""The static report of a run: one HTML file that needs no network, and the curves in it as PNG files."""

from setwise.report.page import write_report
from setwise.report.plots import plot_curves

__all__ = ["plot_curves", "write_report"]
