"""The main job: ``python train.py`` is ``nl-agents train``, in a clone as it is, installed or not."""

from __future__ import annotations

import sys

from nl_agents.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
