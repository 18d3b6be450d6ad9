"""Opponents (c) and (d): PPO on a vector environment in one file, with an LSTM or a feed-forward net.

Written the way a careful engineer writes a single-file PPO for speed: everything preallocated, rollouts in inference
mode, one host copy a step, heads and encoder applied to whole rollouts, fused AdamW, no logging inside. The LSTM is
unrolled by a step loop with resets over all 128 steps, states kept at rollout starts; minibatches are whole streams. A
reset transition (the step after an episode's end) is never learned from, and a timeout is bootstrapped for nothing: the
value of the last observation is computed anyway, one step later.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.opponents.settings import Settings
from benchmarks.opponents.worlds import World

State = tuple[Tensor, Tensor]  # hidden and cell, [B, width] each
Unroll = Callable[[nn.LSTM, Tensor, State, Tensor], tuple[Tensor, State]]


def lstm_step(lstm: nn.LSTM, x: Tensor, state: State) -> State:
    """One LSTM step on x [B, D] with the layer's own weights (the bare cell has the least overhead)."""
    weights = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)
    return torch.lstm_cell(x, state, *weights)


def unroll_by_steps(lstm: nn.LSTM, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
    """Step loop with resets: x [T, B, D], is_first [T, B] -> outputs [T, B, width]."""
    keep = (~is_first).unsqueeze(-1).to(x.dtype)
    outputs = []
    for x_t, keep_t in zip(x.unbind(0), keep.unbind(0), strict=True):
        state = lstm_step(lstm, x_t, (state[0] * keep_t, state[1] * keep_t))
        outputs.append(state[0])
    return torch.stack(outputs), state


def unroll_by_stretches(lstm: nn.LSTM, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
    """The same numbers by one LSTM call for each stretch in which no stream is reset."""
    keep = (~is_first).unsqueeze(-1).to(x.dtype)
    cuts = [0, *(t for t in is_first.any(1).nonzero().flatten().tolist() if t), len(x)]
    outputs = []
    for begin, end in pairwise(cuts):
        initial = tuple((part * keep[begin]).unsqueeze(0) for part in state)
        output, (hidden, cell) = lstm(x[begin:end], initial)
        outputs.append(output)
        state = (hidden[0], cell[0])
    return torch.cat(outputs), state


def initialise(layers: list[nn.Linear], heads: nn.Linear) -> None:
    """The usual start of PPO nets: orthogonal layers, a nearly uniform policy, a value of unit gain (row 0)."""
    for layer in [*layers, heads]:
        nn.init.zeros_(layer.bias)
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 2.0**0.5)
    nn.init.orthogonal_(heads.weight[:1], 1.0)
    nn.init.orthogonal_(heads.weight[1:], 0.01)


class RecurrentNet(nn.Module):
    """Encoder, LSTM, two linear heads."""

    def __init__(self, inputs: int, actions: int, width: int, unroll: Unroll = unroll_by_steps) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, width)
        self.lstm = nn.LSTM(width, width)
        self.heads = nn.Linear(width, actions + 1)
        self._unroll = unroll
        initialise([self.encoder], self.heads)

    def initial_state(self, batch: int, device: str) -> State:
        """Zeros."""
        zeros = torch.zeros(batch, self.lstm.hidden_size, device=device)
        return zeros, zeros

    def act(self, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, Tensor, State]:
        """One step: x [B, D], is_first [B] -> logits [B, A], values [B], state."""
        keep = (~is_first).unsqueeze(-1).to(x.dtype)
        state = lstm_step(self.lstm, torch.tanh(self.encoder(x)), (state[0] * keep, state[1] * keep))
        heads = self.heads(state[0])
        return heads[:, 1:], heads[:, 0], state

    def forward(self, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """A rollout: x [T, B, D], is_first [T, B] -> logits [T, B, A], values [T, B]."""
        hidden, _ = self._unroll(self.lstm, torch.tanh(self.encoder(x)), state, is_first)
        heads = self.heads(hidden)
        return heads[..., 1:], heads[..., 0]


class FeedForwardNet(nn.Module):
    """The same net with a layer in the place of the LSTM."""

    def __init__(self, inputs: int, actions: int, width: int) -> None:
        super().__init__()
        first, second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.body = nn.Sequential(first, nn.Tanh(), second, nn.Tanh())
        self.heads = nn.Linear(width, actions + 1)
        initialise([first, second], self.heads)

    def initial_state(self, batch: int, device: str) -> State:
        """No state."""
        empty = torch.zeros(batch, 0, device=device)
        return empty, empty

    def act(self, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, Tensor, State]:
        """One step: x [B, D] -> logits [B, A], values [B], the state as it came."""
        logits, values = self(x, state, is_first)
        return logits, values, state

    def forward(self, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """Any leading axes: x [..., D] -> logits [..., A], values [...]."""
        heads = self.heads(self.body(x))
        return heads[..., 1:], heads[..., 0]


class Rollout:
    """Preallocated memory of one rollout: host arrays for what the world writes, tensors for what the net writes."""

    def __init__(self, steps: int, world: World, device: str) -> None:
        shape = (steps, world.num_envs)
        self.obs = torch.zeros(steps + 1, world.num_envs, world.observation_size)  # host
        self.is_first = torch.zeros(steps + 1, world.num_envs, dtype=torch.bool)  # host
        self.rewards, self.nonterminal = torch.zeros(shape), torch.zeros(shape)  # host
        self.actions = torch.zeros(shape, dtype=torch.int64, device=device)
        self.log_probs, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        self.host = {name: getattr(self, name).numpy() for name in ("obs", "is_first", "rewards", "nonterminal")}
        # is_reset[t]: step t only reset its stream; it is neither counted nor learned from.
        self.is_reset = torch.zeros(steps + 1, world.num_envs, dtype=torch.bool)
        self.host["is_reset"] = self.is_reset.numpy()


def advantages(rollout: Rollout, last_value: Tensor, gamma: float, lambda_: float) -> Tensor:
    """GAE on a rollout with reset transitions; [T, B] on the host.

    ``nonterminal`` is 0 where an episode terminated (no bootstrap), ``is_reset[t + 1]`` marks any end (no further sum);
    after a timeout values[t + 1] is the value of the last observation, which is what the bootstrap needs.
    """
    values = torch.cat([rollout.values, last_value.unsqueeze(0)]).cpu().numpy()
    continues = (~rollout.host["is_reset"][1:]).astype(np.float32) * np.float32(gamma * lambda_)
    deltas = rollout.host["rewards"] + gamma * values[1:] * rollout.host["nonterminal"] - values[:-1]
    result = np.empty_like(deltas, dtype=np.float32)
    running = np.zeros(deltas.shape[1], np.float32)
    for t in range(len(deltas) - 1, -1, -1):
        running = deltas[t] + continues[t] * running
        result[t] = running
    return torch.from_numpy(result)


class HandLoop:
    """PPO over one world with either net."""

    def __init__(self, world: World, settings: Settings, *, recurrent: bool, unroll: Unroll = unroll_by_steps) -> None:
        torch.manual_seed(settings.seed)
        self.world, self.settings, self.recurrent = world, settings, recurrent
        sizes = (world.observation_size, world.num_actions, settings.width)
        net = RecurrentNet(*sizes, unroll) if recurrent else FeedForwardNet(*sizes)
        self.net = net.to(settings.device)
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=settings.learning_rate, eps=1e-5, weight_decay=0.0, fused=True
        )
        self.rollout = Rollout(settings.num_steps, world, settings.device)
        self.state = net.initial_state(world.num_envs, settings.device)
        self.start_state = self.state
        self.steps = 0
        self.rollout.host["obs"][-1] = world.reset()
        self.rollout.is_first[-1] = True

    @torch.inference_mode()
    def collect(self) -> Tensor:
        """Fills the rollout; returns the values of the observations after it, [B]."""
        rollout, host, device = self.rollout, self.rollout.host, self.settings.device
        for part in ("obs", "is_first", "is_reset"):
            host[part][0] = host[part][-1]
        state = self.start_state = self.state
        for t in range(self.settings.num_steps):
            logits, value, state = self.net.act(rollout.obs[t].to(device), state, rollout.is_first[t].to(device))
            log_probs = torch.log_softmax(logits, -1)
            action = (log_probs.exp() / torch.empty_like(log_probs).exponential_()).argmax(-1)
            rollout.actions[t], rollout.values[t] = action, value
            rollout.log_probs[t] = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
            outcome = self.world.step(action.cpu().numpy())
            host["obs"][t + 1], host["rewards"][t] = outcome.obs, outcome.rewards
            np.logical_not(outcome.terminated, out=host["nonterminal"][t], casting="unsafe")
            np.logical_or(outcome.terminated, outcome.truncated, out=host["is_reset"][t + 1])
            host["is_first"][t + 1] = host["is_reset"][t]
        self.state = state
        last = (rollout.obs[-1].to(device), state, rollout.is_first[-1].to(device))
        self.steps += int((~rollout.is_reset[:-1]).sum())
        return self.net.act(*last)[1]

    def loss(self, obs: Tensor, state: State, is_first: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """PPO's clipped loss over the valid transitions of a minibatch."""
        settings, valid = self.settings, batch["valid"]
        logits, values = self.net(obs, state, is_first)
        all_log_probs = torch.log_softmax(logits, -1)
        log_probs = all_log_probs.gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1)
        weight = valid / valid.sum()
        mean = (batch["advantages"] * weight).sum()
        centred = batch["advantages"] - mean
        scaled = centred / ((centred.square() * weight).sum().sqrt() + 1e-8)
        ratio = (log_probs - batch["log_probs"]).exp()
        clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
        gain = torch.minimum(ratio * scaled, clipped * scaled)
        entropy = -(all_log_probs.exp() * all_log_probs).sum(-1)
        error = (values - batch["returns"]).square()
        return ((settings.value_weight * error - gain - settings.entropy_weight * entropy) * weight).sum()

    def learn(self, last_value: Tensor) -> None:
        """Epochs of minibatches: whole streams with a memory, shuffled transitions without."""
        rollout, settings, device = self.rollout, self.settings, self.settings.device
        advantage = advantages(rollout, last_value, settings.gamma, settings.gae_lambda).to(device)
        obs, is_first = rollout.obs[:-1].to(device), rollout.is_first[:-1].to(device)
        batch = {"actions": rollout.actions, "log_probs": rollout.log_probs, "advantages": advantage}
        batch |= {"returns": advantage + rollout.values, "valid": (~rollout.is_reset[:-1]).float().to(device)}
        if not self.recurrent:
            obs, is_first = obs.flatten(0, 1), is_first.flatten()
            batch = {name: part.flatten() for name, part in batch.items()}
        axis = 1 if self.recurrent else 0
        for _ in range(settings.num_epochs):
            order = torch.randperm(obs.shape[axis], device=device)
            for chosen in order.chunk(settings.num_minibatches):
                state = tuple(part[chosen] for part in self.start_state) if self.recurrent else self.start_state
                picked = {name: part.index_select(axis, chosen) for name, part in batch.items()}
                loss = self.loss(obs.index_select(axis, chosen), state, is_first.index_select(axis, chosen), picked)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), settings.max_grad_norm, foreach=True)
                self.optimizer.step()

    def run(self, report: Callable[[int], None]) -> None:
        """Learns until ``report`` ends the process."""
        while True:
            self.learn(self.collect())
            report(self.steps)
