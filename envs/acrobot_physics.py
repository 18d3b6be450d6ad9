"""Acrobot for B streams at once: two links, a motor between them, the tip is to be swung up.

Equations of motion as in Sutton & Barto (1998, section 11.3), without friction;
one fourth-order Runge-Kutta step of 0.2 s. Held by tests against gymnasium's ``Acrobot-v1``, to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from nl_agents.envs.classic_backend import ClassicBackend
from nl_agents.tasks.backend import BoolArray, FloatArray

TIME_STEP = 0.2  # seconds
SPEED_LIMITS = np.array([[4 * np.pi], [9 * np.pi]])  # radians per second
EPISODE_LIMIT = 500  # env steps
# Kilograms, metres, metres per second squared; a link's centre of mass is at half its length, its inertia 1 kg m².
CONSTANTS = {"mass_1": 1.0, "mass_2": 1.0, "length_1": 1.0, "length_2": 1.0, "gravity": 9.8}
_INERTIA = 1.0


class AcrobotBackend(ClassicBackend):
    """B acrobots; actions 0, 1, 2 are torques of -1, 0, 1 N m; reward -1 a step, 0 for the one that arrives.

    Args:
        num_envs: streams B.
        episode_limit: env steps after which an episode is truncated.
    """

    def __init__(self, num_envs: int, episode_limit: int = EPISODE_LIMIT) -> None:
        super().__init__("acrobot", CONSTANTS, [0.1] * 4, num_envs, episode_limit)
        high = np.array([1, 1, 1, 1, *SPEED_LIMITS[:, 0]], dtype=np.float32)
        self.single_observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.single_action_space = spaces.Discrete(3)

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray]:
        """One Runge-Kutta step; arrived where the tip is one unit above the hinge."""
        torque, start, h = actions - 1.0, self.state, TIME_STEP
        k1 = self._rates(start, torque)
        k2 = self._rates(start + h / 2 * k1, torque)
        k3 = self._rates(start + h / 2 * k2, torque)
        k4 = self._rates(start + h * k3, torque)
        after = start + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = after[:2]
        after[:2] = np.where(np.abs(angles) > np.pi, (angles + np.pi) % (2 * np.pi) - np.pi, angles)
        after[2:] = np.clip(after[2:], -SPEED_LIMITS, SPEED_LIMITS)
        self.state = after
        arrived: BoolArray = -np.cos(after[0]) - np.cos(after[0] + after[1]) > 1.0
        return np.where(arrived, 0.0, -1.0), arrived

    def observations(self) -> npt.NDArray[np.float32]:
        """Returns [B, 6]: cosine and sine of both angles (rad), both speeds (rad/s)."""
        cos, sin = np.cos(self.state[:2]), np.sin(self.state[:2])
        rows = np.stack([cos[0], sin[0], cos[1], sin[1], self.state[2], self.state[3]], axis=1)
        return rows.astype(np.float32)

    def _rates(self, state: FloatArray, torque: FloatArray) -> FloatArray:
        """Returns d state / dt, [4, B]."""
        angle_1, angle_2, speed_1, speed_2 = state
        m1, m2, length, g = (self.constant[name] for name in ("mass_1", "mass_2", "length_1", "gravity"))
        half_1, half_2 = length / 2, self.constant["length_2"] / 2
        coupling = m2 * length * half_2
        cos, sin = np.cos(angle_2), np.sin(angle_2)
        inner = m2 * half_2**2 + _INERTIA
        cross = inner + coupling * cos
        whole = m1 * half_1**2 + m2 * length**2 + inner + 2 * coupling * cos + _INERTIA
        pull_2 = m2 * half_2 * g * np.sin(angle_1 + angle_2)
        pull_1 = (m1 * half_1 + m2 * length) * g * np.sin(angle_1) + pull_2
        turn_1 = pull_1 - coupling * sin * speed_2 * (speed_2 + 2 * speed_1)
        turn_2 = torque + cross / whole * turn_1 - coupling * sin * speed_1**2 - pull_2
        rate_2 = turn_2 / (inner - cross**2 / whole)
        rate_1 = -(cross * rate_2 + turn_1) / whole
        return np.stack([speed_1, speed_2, rate_1, rate_2])
