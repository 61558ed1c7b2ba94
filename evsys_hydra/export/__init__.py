"""An experiment as tidy tables for pandas, polars or a spreadsheet: `evsys-hydra export DIR`.

`tables` says what is in them, `files` writes them.
"""

from .files import Exported, Format, export

__all__ = ["Exported", "Format", "export"]
