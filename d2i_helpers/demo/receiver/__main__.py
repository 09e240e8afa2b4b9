"""The receiver's own process: `python -m d2i_helpers.demo.receiver`, started by `running`."""

from __future__ import annotations

import sys

from d2i_helpers.demo.receiver.serving import main

sys.exit(main())
