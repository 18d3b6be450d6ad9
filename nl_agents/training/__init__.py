"""Acting, the loop of a life, run folders, checkpoints, exact resume."""

from __future__ import annotations

from nl_agents.training.agent import Agent as Agent
from nl_agents.training.predictor import AgentState as AgentState
from nl_agents.training.resume import resume as resume
from nl_agents.training.run_folder import RunFolder as RunFolder
from nl_agents.training.serving import Serving as Serving
