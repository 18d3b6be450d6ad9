"""What a memory core can keep, asked by supervised learning: state tracking, recall, and a needle in a lifetime.

    probe = make_probe("needle-across-episodes")
    batch = probe.batch(np.random.default_rng(0), streams=32, span=100)  # x, targets, mask, is_first; time first

Probes are NumPy alone: they know no core, no trainer and no environment. ``benchmarks/memory.py`` trains cores on them.
"""

from __future__ import annotations

from nl_agents.probes.aa_star import AaStar as AaStar
from nl_agents.probes.autoencode import Autoencode as Autoencode
from nl_agents.probes.count_recall import CountRecall as CountRecall
from nl_agents.probes.needle import Needle as Needle
from nl_agents.probes.parity import Parity as Parity
from nl_agents.probes.probe import Batch as Batch
from nl_agents.probes.probe import Probe as Probe
from nl_agents.probes.recall import Recall as Recall
from nl_agents.probes.registry import PROBES as PROBES
from nl_agents.probes.registry import make_probe as make_probe
from nl_agents.probes.repeat_previous import RepeatPrevious as RepeatPrevious
from nl_agents.probes.selective_copy import SelectiveCopy as SelectiveCopy
