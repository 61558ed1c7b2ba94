"""The page of an experiment: conclusion, forest plot, arms, curves, breakdowns.

`write_report(directory)` writes it as one self-contained file; the dashboard serves the same page from a store. What
both show is made in page.py from `Records`, drawn by templates/, and looks like static/.
"""

from .write import write_report

__all__ = ["write_report"]
