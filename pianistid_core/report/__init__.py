"""An answer as one page to keep, send or print: a single HTML file that needs no network and runs nothing."""

from pianistid_core.report.page import identification_html

__all__ = ["identification_html"]
