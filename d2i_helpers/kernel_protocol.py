"""What the runner and the kernel of a notebook say to each other: variables one way, outputs back.

The runner gives a kernel what may not be saved as a parameter. A notebook shows its counts, its
gate, its notices and its progress in outputs of kinds of their own, which the runner reads and
Jupyter ignores.
"""

from __future__ import annotations

import re

# runner to kernel: environment variables
RUN_ID_VARIABLE = "D2I_UNDER_RUNNER"  # set in the kernel of a recorded run: its id
HOLDER_VARIABLE = "D2I_LEASE_HOLDER"  # who holds the lease that the kernel works under
PERSON_IDS_VARIABLE = "D2I_PERSON_IDS"  # ids of a pilot: they may be in no notebook
LOG_LEVEL_VARIABLE = "D2I_LOG_LEVEL"  # the parameter `log_level`
MODULES_VARIABLE = "D2I_KERNEL_MODULES"  # what the notebook will import, comma-separated
WITHOUT_KEYRING_VARIABLE = "D2I_WITHOUT_KEYRING"  # set: the system has none, the runner looked
# kernel to runner: kinds of output (MIME types)
COUNTS_MIME = "application/vnd.d2i.counts+json"
GATE_MIME = "application/vnd.d2i.gate+json"
NOTICES_MIME = "application/vnd.d2i.notices+json"
ATTENTION_TITLE = "Who needs attention"  # of the counts of children by reason
FIELDS_TITLE = "Fields: how many are filled"  # of the per cent of each field
PROBLEMS_TITLE = "Problems found"  # of the numbers by field and rule
PROGRESS_MIME = "application/vnd.d2i.progress+json"
# where a kernel finds what stages and runs before its own have counted
RECORD_FILE = "run.json"  # in the folder of a run
# also the name of that folder; earlier releases took four random digits
RUN_ID = re.compile(r"([0-9]{8}T[0-9]{6})-(?:[0-9a-f]{8}|[0-9a-f]{4})")
