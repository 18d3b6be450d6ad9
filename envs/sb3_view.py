"""A sequence as a Stable-Baselines3 ``VecEnv``; SB3 is imported when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode, VectorEnv

from nl_agents.envs.same_step import SameStep, takes_partial_resets
from nl_agents.tasks import TaskSequence

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def to_sb3(vector_env: VectorEnv[Any, Any, Any], *, flatten: bool = False) -> VecEnv:
    """Shows a vector env to Stable-Baselines3, all streams on one clock.

    A TaskSequence is set to same-step autoreset, which SB3's interface demands; ``terminal_observation`` and
    ``TimeLimit.truncated`` are where SB3 looks for them. ``seed(s)`` makes the next ``reset()`` start a new life.
    For last action and reward in the observation wrap first: ``to_sb3(AugmentObservation(sequence))``.

    Args:
        vector_env: a TaskSequence, a wrapper around one, any ``gymnasium.vector.VectorEnv`` with same-step autoreset,
            or one that resets single streams on request (SyncVectorEnv, AsyncVectorEnv, EnvPool's; see ``SameStep``).
        flatten: show one float vector (Discrete entries one-hot) instead of a Dict or an image. SB3's CNN takes no
            image below 36 x 36, so MiniGrid's 7 x 7 view needs this or a features extractor of your own.

    Raises:
        ValueError: another vector env with another autoreset mode, whose dummy reset steps SB3 would learn from.
    """
    inner = vector_env.unwrapped
    if isinstance(inner, TaskSequence):
        inner.set_autoreset("same-step")
    mode = vector_env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP and vector_env is inner and takes_partial_resets(inner):
        vector_env, mode = SameStep(vector_env), AutoresetMode.SAME_STEP
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"SB3 expects same-step autoreset, got {mode}: on the dummy step that begins an episode under next-step "
            "SB3 would learn from an action that was never taken; build the env with AutoresetMode.SAME_STEP, or "
            "put nl_agents.envs.same_step.SameStep under all wrappers"
        )
    from nl_agents.envs.sb3_vec_env import SequenceVecEnv

    return SequenceVecEnv(vector_env, flatten)
