"""Vector environments that reset an ended stream one step late, shown as if they reset it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from nl_agents.tasks.backend import BoolArray, FloatArray

if TYPE_CHECKING:
    Wrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # before gymnasium 1.4 it takes no types
    Wrapper = VectorWrapper


class SameStep(Wrapper):
    """Resets ended streams by a partial reset, in the step in which they end: no dummy step is left.

    For environments of next-step autoreset, or of none, that take ``reset(options={"reset_mask": ended})``: gymnasium's
    ``SyncVectorEnv`` and ``AsyncVectorEnv``, EnvPool's. Last observations are in ``info["final_obs"]``.

    Args:
        env: the environment itself, not a wrapper around it: wrappers may not understand a partial reset.

    Raises:
        ValueError: a wrapper.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if env.unwrapped is not env:
            raise ValueError(f"SameStep goes around the environment itself, got the wrapper {type(env).__name__}")
        super().__init__(env)
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Steps all streams, and begins an episode in those that ended."""
        seen, reward, terminated, truncated, info = self.env.step(actions)
        ended = np.asarray(terminated | truncated, np.bool_)
        if not ended.any():
            return seen, reward, terminated, truncated, info
        final = np.empty(self.num_envs, dtype=object)
        for stream in np.flatnonzero(ended):
            is_dict = isinstance(seen, dict)
            final[stream] = {key: seen[key][stream].copy() for key in seen} if is_dict else seen[stream].copy()
        terminated, truncated = terminated.copy(), truncated.copy()  # some environments clear theirs at a reset
        fresh, _ = self.env.reset(options={"reset_mask": ended.copy()})
        if isinstance(seen, dict):
            seen = {key: _merged(seen[key], fresh[key], ended) for key in seen}
        else:
            seen = _merged(seen, fresh, ended)
        return seen, reward, terminated, truncated, {**info, "final_obs": final, "_final_obs": ended}


def takes_partial_resets(env: VectorEnv[Any, Any, Any]) -> bool:
    """Whether ``reset`` of this environment understands ``reset_mask``."""
    return isinstance(env, SyncVectorEnv | AsyncVectorEnv) or _is_envpool(env)


def _is_envpool(env: Any) -> bool:
    return any(kind.__module__.startswith("envpool.") for kind in type(env).__mro__)


def _merged(seen: Any, fresh: Any, ended: BoolArray) -> Any:
    """The batch with the ended streams' rows replaced; ``fresh`` holds all rows or only theirs."""
    merged = np.array(seen)
    merged[ended] = fresh[ended] if len(fresh) == len(ended) else fresh
    return merged
