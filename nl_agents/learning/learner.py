"""The inner loop (level 1): fresh and replayed chunks -> gradients -> a deep optimizer, level by level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nl_agents.config import AgentConfig
from nl_agents.learning.levels import LevelScheduler
from nl_agents.learning.replay import ReplayBuffer
from nl_agents.learning.rollout import Rollout, add_advantages, send
from nl_agents.optim import DeepMomentum, GuardedAdamW
from nl_agents.policies import MemoryPolicy
from nl_agents.policies.memory_policy import PolicyOutput
from nl_agents.rl import losses
from nl_agents.rl.returns import VTrace, vtrace
from nl_agents.upkeep import Upkeep


class Metrics:
    """Scalar tensors and host numbers, collected without arithmetic or synchronisation; one transfer when read."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.numbers: dict[str, list[float]] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Adds one observation of ``name``."""
        if isinstance(value, Tensor):
            self.values.setdefault(name, []).append(value.detach())
        else:
            self.numbers.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """Means of everything added (the only synchronisation)."""
        told = {name: sum(numbers) / len(numbers) for name, numbers in self.numbers.items()}
        if not self.values:
            return told
        means = torch.stack([torch.stack(values).float().mean() for values in self.values.values()])
        return dict(zip(self.values, means.tolist(), strict=True)) | told


class InnerLearner:
    """PPO on fresh chunks, V-trace and selective cloning on replayed ones, one loss, one backward a minibatch.

    Loss of a minibatch (weights from the configs, means over the valid steps of each kind of chunk):

        fresh:     clipped surrogate + value * (V - R)^2 - entropy * H
        replayed:  policy * [clipped surrogate around the behaviour + value * (V - v)^2], v the V-trace targets
                   (``replay.gradient="v-trace": - rho A log pi in place of the surrogate, as in CLEAR)
                   + clone_policy * w KL(mu || pi) + clone_value * w (V - V_mu)^2
        both:      prediction * |next change of the features and reward - head|^2

    w = relu(stored return - V) / deviation, at most 3: only what went better than expected is cloned (decision 14);
    ``replay.clone="all"`` sets w = 1 (CLEAR). Upkeep adds its penalties.
    Values are learnt in units of the policy's ``return_scale``. Gradients pass through the memory's writes of the whole
    chunk and stop at its start, where the stored memory is a constant.

    Args:
        policy: the actor-critic, updated in place.
        optimizer: steps the parameters that ``scheduler`` leaves a gradient.
        scheduler: levels and their periods.
        config: all options.
        replay: the buffer, or None.
        generator: order of streams in minibatches (host).
        upkeep: penalties, and what is done after steps and rollouts.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        optimizer: DeepMomentum | GuardedAdamW,
        scheduler: LevelScheduler,
        config: AgentConfig,
        replay: ReplayBuffer | None,
        generator: torch.Generator,
        upkeep: Sequence[Upkeep] = (),
    ) -> None:
        self.policy, self.optimizer, self.scheduler = policy, optimizer, scheduler
        self.config, self.replay, self.generator = config, replay, generator
        self.upkeep = list(upkeep)
        self.replay_ratio = config.replay.ratio if replay is not None else 0.0
        self.updates = 0
        self._owed = 0.0  # replayed streams owed by a fractional ratio

    @property
    def refused_chunks(self) -> int:
        """Chunks that replay refused because they were not finite."""
        return 0 if self.replay is None else self.replay.refused

    def learn(self, rollout: Rollout, clock: int) -> dict[str, float]:
        """Runs all epochs on one rollout and files it for replay.

        Args:
            rollout: fresh experience with behaviour statistics.
            clock: the core's step clock at its first step.

        Returns:
            Means of the losses and monitors over the minibatches.
        """
        if self.config.uniform:
            return {}
        ppo = self.config.ppo
        add_advantages(rollout, ppo.gamma, ppo.gae_lambda)
        metrics = Metrics()
        streams = rollout.rows.shape[1]
        count = min(ppo.num_minibatches, streams)
        orders = torch.stack([torch.randperm(streams, generator=self.generator) for _ in range(ppo.num_epochs)])
        for epoch, order in enumerate(send(orders, rollout.rows.device)):
            for index in order.tensor_split(count):
                self._update(rollout.streams(index), clock, metrics, first_epoch=epoch == 0)
        explained = _explained_variance(rollout)
        metrics.add("train/explained_variance", explained)
        if self.replay is not None:
            self.replay.add(rollout, clock)
        for part in self.upkeep:
            part.after_rollout(rollout)
        kept = {f"upkeep/{key}": value for part in self.upkeep for key, value in part.metrics().items()}
        return {**metrics.means(), **kept}

    def _update(self, fresh: Rollout, clock: int, metrics: Metrics, first_epoch: bool) -> None:
        old, old_clock = self._draw(fresh.rows.shape[1], metrics)
        batch, start = (fresh, clock) if old is None else (_join(fresh, old), clock if old_clock == clock else None)
        state = self.policy.core.unpack(batch.state)
        output, _ = self.policy(batch.inputs(), state, start)
        loss = self._fresh_loss(fresh, _part(output, 0, fresh.rows.shape[1]), metrics)
        if old is not None:
            loss = loss + self._replay_loss(old, _part(output, fresh.rows.shape[1], None), metrics)
        if self.policy.predictor is not None and self.config.ppo.prediction > 0.0:
            predicted = self.policy.prediction_loss(output, batch.actions, batch.rewards, batch.follows())
            metrics.add("train/prediction_loss", predicted)
            loss = loss + self.config.ppo.prediction * predicted
        for part in self.upkeep:
            penalty = part.penalty()
            if penalty is not None:
                metrics.add(f"upkeep/{part.name}_penalty", penalty)
                loss = loss + penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._step(metrics, first_epoch)

    def _step(self, metrics: Metrics, first_epoch: bool) -> None:
        """Steps the levels that are due."""
        norm = self.scheduler.gather()
        metrics.add("train/gradient_norm", norm)
        self.optimizer.step(learn_memory=first_epoch)
        self.updates += 1
        for part in self.upkeep:
            part.after_step()

    def _fresh_loss(self, fresh: Rollout, output: PolicyOutput, metrics: Metrics) -> Tensor:
        ppo, spec = self.config.ppo, self.policy.actions
        trains = fresh.trains
        advantages = losses.normalise_advantages(fresh.advantages, trains, least=self.policy.advantage_scale)
        log_probs, entropies = spec.log_prob_and_entropy(output.parameters, fresh.actions)
        policy = losses.ppo_policy_loss(log_probs, fresh.log_probs, advantages, trains, ppo.clip)
        value = losses.value_loss(output.values, fresh.returns / self.policy.return_scale, trains)
        entropy = losses.masked_mean(entropies, trains)
        for name, scalar in (
            ("train/policy_loss", policy.loss),
            ("train/value_loss", value),
            ("train/entropy", entropy),
            ("train/approx_kl", policy.approximate_kl),
            ("train/clip_fraction", policy.clip_fraction),
        ):
            metrics.add(name, scalar)
        return policy.loss + ppo.value * value - ppo.entropy * entropy

    def _replay_loss(self, old: Rollout, output: PolicyOutput, metrics: Metrics) -> Tensor:
        ppo, replay, spec = self.config.ppo, self.config.replay, self.policy.actions
        trains = old.trains.clone()
        trains[: replay.burn_in] = False
        scale = self.policy.return_scale
        values = output.values.detach() * scale
        reached = torch.cat((values[1:], old.bootstrap_values[-1:]))
        reached = torch.where(old.truncated, old.bootstrap_values, reached)
        log_probs = spec.log_prob(output.parameters, old.actions)
        traced = vtrace(
            old.log_probs,
            log_probs.detach(),
            old.rewards,
            values,
            reached,
            old.terminated,
            old.truncated,
            old.trains,
            ppo.gamma,
            ppo.gae_lambda,
        )
        policy = self._replayed_gradient(traced, log_probs, old.log_probs, trains)
        if replay.gradient == "v-trace":
            policy = policy - ppo.entropy * losses.masked_mean(spec.entropy(output.parameters), trains)
        value = losses.value_loss(output.values, traced.targets / scale, trains)
        weights = torch.ones_like(values)
        if replay.clone == "better":
            weights = losses.cloning_weights(old.returns, values, trains)
        clone_policy = losses.masked_mean(weights * spec.kl(old.parameters, output.parameters), trains)
        clone_value = losses.masked_mean(weights * (output.values - old.values / scale).square(), trains)
        for name, scalar in (
            ("replay/policy_loss", policy),
            ("replay/value_loss", value),
            ("replay/clone_policy_loss", clone_policy),
            ("replay/clone_value_loss", clone_value),
            ("replay/weight_mean", losses.masked_mean(weights, trains)),
            ("replay/ratio_mean", losses.masked_mean(traced.ratios, trains)),
        ):
            metrics.add(name, scalar)
        total = replay.policy * (policy + ppo.value * value)
        return total + replay.clone_policy * clone_policy + replay.clone_value * clone_value

    def _replayed_gradient(self, traced: VTrace, log_probs: Tensor, old_log_probs: Tensor, trains: Tensor) -> Tensor:
        """Policy loss on replayed chunks."""
        stakes = self.policy.advantage_scale
        if (
            self.config.replay.gradient == "v-trace"
        ):  # Espeholt et al. 2018, Eq. 4; in units of what was at stake so far
            advantages = traced.advantages.detach() / stakes.clamp_min(1e-8)
            return -losses.masked_mean(advantages * log_probs, trains)
        # V-trace's targets, but the surrogate clipped around the behaviour: an action that it took by chance and the
        # policy has since dropped is not pushed on towards probability 0
        advantages = losses.normalise_advantages(
            traced.advantages / traced.ratios.clamp_min(1e-3), trains, least=stakes
        )
        return losses.ppo_policy_loss(log_probs, old_log_probs, advantages, trains, self.config.ppo.clip).loss

    def _draw(self, fresh_streams: int, metrics: Metrics) -> tuple[Rollout | None, int | None]:
        """Draws the replayed chunks that belong to a minibatch of ``fresh_streams`` fresh ones."""
        if self.replay is None or self.replay_ratio <= 0.0 or self.replay.size == 0:
            return None, None
        self._owed += self.replay_ratio * fresh_streams
        count = math.floor(self._owed)
        if count == 0:
            return None, None
        self._owed -= count
        old, clock, age = self.replay.sample(count)
        metrics.add("replay/age_mean", age)
        return old, clock

    def state_dict(self) -> dict[str, Any]:
        """Counters, partial sums, replay and randomness, for an exact resume (policy and optimizer have their own)."""
        return {
            "updates": self.updates,
            "replay_ratio": self.replay_ratio,
            "owed": self._owed,
            "scheduler": self.scheduler.state_dict(),
            "replay": None if self.replay is None else self.replay.state_dict(),
            "generator": self.generator.get_state(),
            "upkeep": {part.name: part.state_dict() for part in self.upkeep},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        self.updates, self.replay_ratio = int(state["updates"]), float(state["replay_ratio"])
        self._owed = float(state["owed"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.replay is not None and state["replay"] is not None:
            self.replay.load_state_dict(state["replay"], next(self.policy.parameters()).device)
        self.generator.set_state(state["generator"].cpu())
        for part in self.upkeep:
            part.load_state_dict(state["upkeep"][part.name])


def _join(fresh: Rollout, old: Rollout) -> Rollout:
    """Puts replayed chunks behind the fresh streams."""
    blocks = [torch.cat(pair, dim=1) for pair in zip(fresh[:-1], old[:-1], strict=True)]
    return Rollout._make((*blocks, torch.cat((fresh.state, old.state))))


def _part(output: PolicyOutput, start: int, stop: int | None) -> PolicyOutput:
    """The outputs of some streams."""
    return PolicyOutput(*(block[:, start:stop] for block in output))


def _explained_variance(rollout: Rollout) -> Tensor:
    """Share of the returns' variance that the values explained when acting; 0 where returns do not vary."""
    returns, residual = rollout.returns[rollout.trains], (rollout.returns - rollout.values)[rollout.trains]
    if returns.numel() < 2:
        return rollout.returns.new_zeros(())
    variance = returns.var()
    return torch.where(variance > 0, 1.0 - residual.var() / variance.clamp_min(1e-12), torch.zeros_like(variance))
