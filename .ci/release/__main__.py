"""`python .ci/release …`: see the package's own words."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from release.commands import main

main()
