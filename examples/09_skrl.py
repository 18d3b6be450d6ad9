"""A memory core in skrl's recurrent PPO: the packed state is the one tensor that skrl stores for an RNN.

    pip install "skrl[torch]"
    python examples/09_skrl.py

skrl sets the whole state to zero where an episode ends, so levels of scope `never` end with it.
"""

import gymnasium as gym
import torch
from skrl.agents.torch.ppo import PPO_RNN
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from torch import nn

from nl_agents.memory import make_core
from nl_agents.sb3.cells import CoreCell

STREAMS, LENGTH = 4, 16  # length of a training sequence


class Both(CategoricalMixin, DeterministicMixin, Model):
    """Actor and critic on one core."""

    def __init__(self, spaces, core_name):
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self, role="policy")
        DeterministicMixin.__init__(self, role="value")
        self.encode, self.cell = nn.Linear(4, 64), CoreCell(make_core(core_name, input_size=64, width=64))
        self.heads = nn.ModuleDict({"policy": nn.Linear(64, 2), "value": nn.Linear(64, 1)})

    def get_specification(self):
        """One vector a stream."""
        return {"rnn": {"sequence_length": LENGTH, "sizes": [(1, STREAMS, self.cell.state_size)]}}

    def act(self, inputs, *, role=""):
        """Draws an action, or values the observation."""
        return (CategoricalMixin if role == "policy" else DeterministicMixin).act(self, inputs, role=role)

    def compute(self, inputs, role):
        """Rows [N, 4] are one step of all streams, or in training sequences of LENGTH one after the other."""
        steps = LENGTH if self.training else 1
        x = torch.tanh(self.encode(inputs["observations"])).view(-1, steps, 64).transpose(0, 1)  # [T, B, 64]
        packed = inputs["rnn"][0][0].view(x.shape[1], steps, -1)[:, 0].contiguous()  # at each sequence's start
        first = torch.zeros(x.shape[:2], dtype=torch.bool)
        if steps > 1:  # skrl tells which steps were an episode's last
            first[1:] = (inputs["terminated"] | inputs["truncated"]).view(x.shape[1], steps).T[:-1]
        y, after = self.cell.read(x, self.cell.unpack(packed), first, None)
        said = self.heads[role](y.transpose(0, 1).flatten(0, 1))
        return said, {"rnn": [self.cell.pack(after).unsqueeze(0)]}


def main(steps: int = 2_048, core_name: str = "hope") -> PPO_RNN:
    """Learns CartPole for ``steps`` vector steps."""
    env = wrap_env(gym.make_vec("CartPole-v1", num_envs=STREAMS, vectorization_mode="sync"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    cfg = {"rollouts": 64, "mini_batches": 4, "experiment": {"write_interval": 0, "checkpoint_interval": 0}}
    memory, both = RandomMemory(memory_size=64, num_envs=STREAMS, device="cpu"), Both(spaces, core_name)
    agent = PPO_RNN(models={"policy": both, "value": both}, memory=memory, cfg=cfg, **spaces)
    options = {"timesteps": steps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(cfg=options, env=env, agents=agent).train()
    return agent


if __name__ == "__main__":
    main()
