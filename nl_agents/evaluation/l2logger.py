"""A life in the log format of DARPA's Lifelong Learning Machines programme, for l2metrics and its like.

Written are ``logger_info.json``, ``scenario_info.json`` and one ``data-log.tsv`` a block, as l2logger's format 1.1
lays them out (New et al. 2022): a row an episode, numbered over the whole life, every scheduled switch a new block. All
blocks are of type ``train``, subtype ``wake``: a life here has no separate evaluation.
"""

from __future__ import annotations

import bisect
import csv
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from nl_agents.errors import RunFolderError
from nl_agents.evaluation.lifetime import Lifetime

FORMAT = "1.1"
COLUMNS = (
    "block_num", "exp_num", "worker_id", "block_type", "block_subtype", "task_name", "task_params", "exp_status",
    "timestamp", "clock", "episode_step_count", "reward",
)  # fmt: skip
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # what the clock counts microseconds from: a log of a life is reproducible


def write_l2logger(
    life: Lifetime,
    path: str | Path,
    *,
    scenario: str = "nl-agents",
    scenario_type: str = "custom",
    task_params: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes one life as a scenario folder.

    Args:
        life: the record; rows follow the block, within it the clock at which episodes ended.
        path: the new scenario folder.
        scenario: name of the scenario.
        scenario_type: ``condensed``, ``dispersed``, ``permuted``, ``alternating``, ``ste`` or ``custom``.
        task_params: parameters of a task by name, plain JSON values; none where absent.

    Returns:
        The folder.

    Raises:
        RunFolderError: the folder exists and holds something.
    """
    folder = Path(path)
    if folder.exists() and any(folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty: a log is written into a new folder; name another")
    folder.mkdir(parents=True, exist_ok=True)
    info = {"metrics_columns": ["reward"], "log_format_version": FORMAT}
    (folder / "logger_info.json").write_text(json.dumps(info, indent=2) + "\n")
    about = {
        "scenario": scenario,
        "scenario_type": scenario_type,
        "num_envs": life.num_envs,
        "steps": life.steps,
        "task_log": [list(entry) for entry in life.task_log],
        "meta": life.meta,
    }
    (folder / "scenario_info.json").write_text(json.dumps(about, indent=2, default=str) + "\n")
    names = [life.task_names[task] for task in life.task]
    blocks = np.array([_block(life.task_log, int(at), name) for at, name in zip(life.step, names, strict=True)])
    rows: dict[int, list[list[Any]]] = {}
    for number, index in enumerate(np.lexsort((life.stream, life.step, blocks)).tolist()):
        name, block = names[index], int(blocks[index])
        params = json.dumps(dict((task_params or {}).get(name, {})))
        stamp = (EPOCH + timedelta(microseconds=int(life.step[index]))).strftime("%Y%m%dT%H%M%S.%f")
        kind = ["worker-default", "train", "wake", _label(name), params, "complete", stamp]
        lived = [int(life.step[index]), int(life.length[index]), float(life.returns[index])]
        rows.setdefault(block, []).append([block, number, *kind, *lived])
    for block, records in rows.items():
        place = folder / "worker-default" / f"{block}-train"
        place.mkdir(parents=True)
        with (place / "data-log.tsv").open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t", quotechar='"', lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(records)
    return folder


def _block(log: tuple[tuple[int, str], ...], ended: int, name: str) -> int:
    """Returns the block an episode belongs to: the last one of its task that was due when it ended.

    So an episode of the old task that ends after a switch stays with the old block.
    """
    due = bisect.bisect_right([step for step, _ in log], ended) - 1
    return next((block for block in range(due, -1, -1) if log[block][1] == name), max(due, 0))


def _label(name: str) -> str:
    """Returns a task name as l2logger splits it, ``label_variant``: underscores are kept for that."""
    return re.sub(r"[^0-9A-Za-z.\-]", "-", name)
