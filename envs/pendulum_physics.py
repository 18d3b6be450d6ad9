"""Pendulum for B streams at once: a rod to be swung up and held by a weak motor.

A rod of mass m and length l around its end: acceleration 3 g / (2 l) sin(angle) + 3 torque / (m l²), angle 0 upright;
semi-implicit Euler steps of 0.05 s. Held by tests against gymnasium's ``Pendulum-v1``, to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nl_agents.envs.classic_backend import ClassicBackend
from nl_agents.tasks.backend import BoolArray, FloatArray

TIME_STEP = 0.05  # seconds
SPEED_LIMIT = 8.0  # radians per second
TORQUE_LIMIT = 2.0  # newton metres
EPISODE_LIMIT = 200  # env steps
CONSTANTS = {"gravity": 10.0, "mass": 1.0, "length": 1.0}  # metres per second squared, kilograms, metres


class PendulumBackend(ClassicBackend):
    """B pendulums; reward ``-(angle² + 0.1 speed² + 0.001 torque²)``; episodes only end by their limit.

    Args:
        num_envs: streams B.
    """

    def __init__(self, num_envs: int) -> None:
        super().__init__("pendulum", CONSTANTS, [np.pi, 1.0], num_envs, EPISODE_LIMIT)
        high = np.array([1, 1, SPEED_LIMIT], dtype=np.float32)
        self.single_observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.single_action_space = spaces.Box(-TORQUE_LIMIT, TORQUE_LIMIT, (1,), np.float32)

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray]:
        """One step; torque beyond the limit is cut."""
        angle, speed = self.state
        torque = np.clip(actions[:, 0].astype(np.float64), -TORQUE_LIMIT, TORQUE_LIMIT)
        g, mass, length = (self.constant[name] for name in ("gravity", "mass", "length"))
        off = (angle + np.pi) % (2 * np.pi) - np.pi
        cost: FloatArray = off**2 + 0.1 * speed**2 + 0.001 * torque**2
        rate = 1.5 * g / length * np.sin(angle) + 3.0 / (mass * length**2) * torque
        speed = np.clip(speed + TIME_STEP * rate, -SPEED_LIMIT, SPEED_LIMIT)
        self.state = np.stack([angle + TIME_STEP * speed, speed])
        return -cost, np.zeros(self.num_envs, dtype=np.bool_)

    def observations(self) -> npt.NDArray[np.float32]:
        """Returns [B, 3]: cosine and sine of the angle (rad), speed (rad/s)."""
        angle, speed = self.state
        return np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)
