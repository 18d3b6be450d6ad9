"""``python -m nl_agents.cli`` is ``nl-agents``."""

from __future__ import annotations

import sys

from nl_agents.cli import main

if __name__ == "__main__":
    sys.exit(main())
