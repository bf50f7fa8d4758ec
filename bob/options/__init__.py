"""Options, each declared once, for pytest and for the command ``bob``. Imports nothing heavy."""

from bob.options.declaration import OPTIONS, option_table
from bob.options.option import Option
from bob.options.values import Options

__all__ = ["OPTIONS", "Option", "Options", "option_table"]
