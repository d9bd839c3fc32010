"""``python -m kit`` is the command line."""

import sys

from kit.interface.cli import main

sys.exit(main())
