"""The three-level self-improving agent.

level 0   a Hope policy: self-modifying memory -> continuum memory system, written at every step, never cleared in half
          of its heads; a prediction loss on the next change of the observation teaches it what to notice.
level 1   a deep optimizer (guarded memory of gradients) as learner from fresh chunks (PPO) and replayed ones (V-trace,
          cloning of what was good); slow levels of the memory step on summed gradients at their own periods.
level 2   a meta-controller that moves periods, rates and the replay ratio by one notch a decision, judged by
          long-horizon returns, inside bounds, every move logged before it takes effect.
"""

from __future__ import annotations

from nl_agents.config import AgentConfig

DOC = "three-level agent: Hope memory, deep optimizer on fresh and replayed chunks, meta-controller"


def make_config() -> AgentConfig:
    """All defaults of the library are this agent's."""
    return AgentConfig()
