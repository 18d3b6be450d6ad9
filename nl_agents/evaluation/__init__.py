"""Evaluation of whole lives: the record, lifelong figures, statistics over seeds, reports.

Reads run folders and records only; knows agents and task sequences by their contracts.
"""

from __future__ import annotations

from nl_agents.evaluation.comparison import compare, task_table
from nl_agents.evaluation.l2logger import write_l2logger
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.evaluation.metrics import lifelong_metrics, task_scores
from nl_agents.evaluation.recording import run_episodes, run_lifetime
from nl_agents.evaluation.reference import Levels, available_references, load_reference, write_reference
from nl_agents.evaluation.statistics import (
    Interval,
    cluster_bootstrap,
    iqm,
    probability_of_improvement,
    stratified_bootstrap,
)
from nl_agents.evaluation.visits import Visits, find_visits

__all__ = [
    "Interval",
    "Levels",
    "Lifetime",
    "Visits",
    "available_references",
    "cluster_bootstrap",
    "compare",
    "find_visits",
    "iqm",
    "lifelong_metrics",
    "load_reference",
    "probability_of_improvement",
    "run_episodes",
    "run_lifetime",
    "stratified_bootstrap",
    "task_scores",
    "task_table",
    "write_l2logger",
    "write_reference",
]
