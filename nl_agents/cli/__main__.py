"""``python -m nl_agents.cli`` is ``nl-agents``."""

from __future__ import annotations

import sys

from nl_agents.cli import main

sys.exit(main())
