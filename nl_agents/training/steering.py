"""Level 2 at work: turns the meta-controller's settings into periods, rates and a replay ratio, epoch by epoch."""

from __future__ import annotations


class Steering:
    pass
