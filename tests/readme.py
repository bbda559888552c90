"""Tables in the README that scripts write and tests compare, each between two comments."""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def shown(name):
    """The table of this name as it is in the README; None if there is no place for it."""
    found = _place(name).search(README.read_text())
    return found and found[2]


def write(name, table):
    """Put a table in the place of the one of this name."""
    text, count = _place(name).subn(lambda at: at[1] + table + at[3], README.read_text())
    if not count:
        sys.exit(f"{README} has no place for the table {name}")
    README.write_text(text)


def _place(name):
    return re.compile(rf"(<!-- {name}: made by .* -->\n)(.*?)(<!-- end of {name} -->\n)", re.DOTALL)
