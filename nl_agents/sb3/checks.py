"""What the plug-in's parts ask of what they are given."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN

from nl_agents.errors import ConfigError, SpaceNotSupportedError, StateMismatchError


def check_whole(name: str, value: Any, least: int, unit: str, or_none: bool = False) -> None:
    """Raises ConfigError unless ``value`` is an integer >= ``least``, or None where that is allowed."""
    if value is None and or_none:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        kinds = "None or an integer" if or_none else "an integer"
        raise ConfigError(f"{name} must be {kinds} >= {least} ({unit}), got {value!r}")


def check_streams(shown: int, remembered: int) -> None:
    """Raises StateMismatchError where ``predict`` is given as many memories as nobody has observed."""
    if shown != remembered:
        raise StateMismatchError(
            f"predict was given {shown} observations and a state of {remembered} streams: give the state that predict "
            "returned for as many streams, or state=None for newborn memories"
        )


def warn_newborn(saved: int, streams: int) -> None:
    """Says, to who called ``load``, that saved memories fit no stream."""
    warnings.warn(
        f"the model was saved with {saved} streams and the environment has {streams}: every memory is newborn; load "
        "with as many streams to go on with the saved ones",
        stacklevel=3,
    )


class SpaceAware(BaseModel):
    """A policy that says which of its kin sees a space, and sizes features in Python's integers.

    To be named before the host's class among the bases.
    """

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """As in SB3; its sizes are numpy's where an observation is MultiDiscrete, and memories take none of these.

        Raises:
            SpaceNotSupportedError: a Dict for a policy that sees vectors or images, or the other way round.
        """
        kind, space = self.features_extractor_class, self.observation_space
        is_dict = isinstance(space, spaces.Dict)
        if is_dict and kind in (FlattenExtractor, NatureCNN):
            raise SpaceNotSupportedError(
                f"{type(self).__name__} cannot see the Dict {space}: take the policy for several inputs, "
                "'HopeMultiInputPolicy' (or 'FastLstmMultiInputPolicy')"
            )
        if not is_dict and kind is CombinedExtractor:
            raise SpaceNotSupportedError(
                f"{type(self).__name__} expects a Dict and the observation space is {space}: take 'HopePolicy' for "
                "vectors or 'HopeCnnPolicy' for images (or 'FastLstmPolicy', 'FastLstmCnnPolicy')"
            )
        made = super().make_features_extractor()
        made._features_dim = int(made.features_dim)
        return made
