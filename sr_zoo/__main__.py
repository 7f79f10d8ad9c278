"""``python -m sr_zoo`` is ``sr-zoo``."""

import sys

from sr_zoo.cli import main

sys.exit(main())
