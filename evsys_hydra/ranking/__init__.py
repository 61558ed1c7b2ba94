"""Which group is better, and can it be believed: paired comparisons that name no false winner.

Needs numpy and scipy only. `rank` takes a table of scores as plain JSON and returns the verdict as plain JSON;
`write_conclusion`, `ranking_rows` and `forest_plot` turn a verdict into words, rows and a picture.
"""

from .breakdown import breakdown
from .conclusion import highest_arm, write_conclusion
from .folding import pass_at_k
from .forest import forest_plot
from .power import detectable
from .rows import ranking_rows
from .table import TableError
from .verdict import rank

__all__ = [
    "TableError",
    "breakdown",
    "detectable",
    "forest_plot",
    "highest_arm",
    "pass_at_k",
    "rank",
    "ranking_rows",
    "write_conclusion",
]
