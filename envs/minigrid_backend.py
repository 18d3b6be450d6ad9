"""MiniGrid's registered mazes on EnvPool where it is installed (an order of magnitude faster), on Python MiniGrid else.

Both give the same transitions; their random layouts come from different generators. EnvPool is made anew at every
checkpoint, Python MiniGrid resumes exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from nl_agents.envs.minigrid_view import ACTION_SPACE, OBSERVATION_SPACE, make_minigrid
from nl_agents.tasks import Backend, Task
from nl_agents.tasks.envpool_backend import EnvPoolBackend, envpool_is_installed
from nl_agents.tasks.python_backend import PythonBackend


def minigrid_backend(
    suite: str, limits: Mapping[str, int], tasks: tuple[str, ...], num_envs: int, kind: str
) -> Backend:
    """Builds the physics.

    Args:
        suite: who asks, for messages.
        limits: task (``MiniGrid-<task>-v0`` without what stands around it) -> its longest episode in env steps.
        tasks: names among ``limits``.
        num_envs: streams.
        kind: ``auto`` takes EnvPool where it is installed; ``envpool`` and ``python`` insist.

    Raises:
        ValueError: another kind.
        ModuleNotFoundError: EnvPool is asked for and not there.
    """
    if kind not in ("auto", "envpool", "python"):
        raise ValueError(f"backend of {suite} must be 'auto', 'envpool' or 'python', got {kind!r}")
    if kind == "envpool" and not envpool_is_installed():
        raise ModuleNotFoundError("backend='envpool' needs EnvPool: pip install envpool, or use backend='python'")
    ids = {name: f"MiniGrid-{name}-v0" for name in tasks}
    if kind == "python" or not envpool_is_installed():
        return PythonBackend([Task(name, make_minigrid, {"env_id": env_id}) for name, env_id in ids.items()], num_envs)
    longest = max(limits[name] for name in tasks)
    return EnvPoolBackend(list(ids.values()), num_envs, OBSERVATION_SPACE, ACTION_SPACE, longest)
