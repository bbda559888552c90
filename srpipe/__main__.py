"""``python -m srpipe`` is the command ``srpipe``."""

import sys

from srpipe.cli import main

sys.exit(main())
