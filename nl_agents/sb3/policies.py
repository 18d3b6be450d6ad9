"""Recurrent actor-critics for sb3-contrib's RecurrentPPO and our FastRecurrentPPO, around any memory cell.

sb3-contrib's own policy does all but the memory: extractors, heads, distributions, ``predict``. What it calls for a
memory is one method, ``_process_sequence``; here it runs a padded block [T, S] of sequences in one call. RecurrentPPO
pads each sequence at its *end* and throws the last state away, so what the memory does there reaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.memory.form import compiled, load_compiled
from nl_agents.memory.views import KeptViews
from nl_agents.sb3.cells import Cell, CoreCell, CoreMaker, FusedLstm, HostState, make_core, quick_act
from nl_agents.sb3.checks import SpaceAware, check_streams
from nl_agents.sb3.finite import batch_of
from nl_agents.sb3.hooks import hooks_of
from nl_agents.types import LevelInfo

heads_lanes = load_compiled("nl_agents.sb3.heads_lanes") if compiled is not None else None


class Memory(NamedTuple):
    """The live memory of an actor-critic: states of its cells, batch first."""

    pi: Any
    vf: Any  # None unless the critic has a memory of its own

    def rows(self, index: Any) -> Memory:
        """The memory of some streams, copied where ``index`` is a tensor."""
        return Memory(*(None if part is None else type(part)(*(leaf[index] for leaf in part)) for part in self))


class SequenceFlags(NamedTuple):
    """What the memory is told beside its input."""

    is_first: Tensor  # [T, B] bool
    is_valid: Tensor | None = None  # [T, B] bool, None: all
    phase: int | None = None  # step clock at the first step, None: each stream's own


class MemoryActorCritic(SpaceAware, RecurrentActorCriticPolicy):
    """What HopePolicy and FastLstmPolicy share: cells in the places of the LSTMs, and whole sequences at once.

    ``enable_critic_lstm=True`` (default): actor and critic each have a memory. ``shared_lstm=True`` with
    ``enable_critic_lstm=False``: the critic reads the actor's memory and sends no gradient into it. Neither: the critic
    is feed-forward. Names and meaning are RecurrentPPO's.
    """

    lstm_actor: Any
    lstm_critic: Any

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **options)
        self.head_views: KeptViews[Any] = KeptViews()  # of the parameters, for who acts, as
        self.act_views: KeptViews[Any] = KeptViews()
        self.sees_vectors = self._sees_vectors()
        self.extractor_hooks = hooks_of(self.features_extractor)

    def _install(self, make_cell: Callable[[], Cell], lr_schedule: Schedule) -> None:
        """Puts cells where the host's constructor has put LSTMs, and builds the optimizer anew around them."""
        self.lstm_actor = make_cell()
        if self.lstm_critic is not None:
            self.lstm_critic = make_cell()
        self.lstm_hidden_state_shape = (self.lstm_actor.num_layers, 1, self.lstm_actor.hidden_size)
        rate = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = cast(Any, self.optimizer_class)(self.parameters(), **rate)

    @property
    def has_plain_lstms(self) -> bool:
        """Whether memories are LSTMs of one layer, on a CPU, without projection or second direction."""
        cells = [cell for cell in (self.lstm_actor, self.lstm_critic) if cell is not None]
        plain = all(type(cell) is FusedLstm and cell._is_plain(cast(Tensor, cell.weight_hh_l0)) for cell in cells)
        return plain and all(cell.num_layers == 1 for cell in cells)

    @property
    def runs_on_two_cores(self) -> bool:
        """Whether learning is nearly all in ``lstm_lanes`` and ``heads_lanes``, which can keep two cores busy."""
        on_cpu = self.device.type == "cpu" and heads_lanes is not None
        return on_cpu and self.sees_vectors and isinstance(self.lstm_actor, FusedLstm)

    @property
    def clock_period(self) -> int:
        """Env steps after which the memories' step clock returns to 0."""
        return int(self.lstm_actor.clock_period)

    def levels(self) -> list[LevelInfo]:
        """What in the memories learns on a time scale of its own; names begin with ``actor`` or ``critic``."""
        cells = {"actor": self.lstm_actor, "critic": self.lstm_critic}
        return [
            row._replace(name=f"{name}.{row.name.removeprefix('core.')}")
            for name, cell in cells.items()
            if cell is not None
            for row in cell.levels()
        ]

    def _process_sequence(  # type: ignore[override]  # the host's is static; it is always called on the policy
        self, features: Tensor, lstm_states: HostState, episode_starts: Tensor, lstm: Cell
    ) -> tuple[Tensor, HostState]:
        """Runs S sequences, padded to one length T, in one call of the memory.

        A step whose features are not finite is shown to nobody: its features are zero and the memory takes it as
        invalid, but at an episode's first step, which must clear.

        Args:
            features: [S * T, F], sequence by sequence.
            lstm_states: (h, c) before the first steps, each [layers, S, hidden].
            episode_starts: [S * T] float, 1 at the first step of an episode.
            lstm: the cell to run.

        Returns:
            read-outs [S * T, width] in the same order, and (h, c) after the last steps; where T > 1, which is training,
            nobody reads these, and a core with a clock hands back those before the first step.
        """
        count = lstm_states[0].shape[1]
        x = features.reshape(count, -1, lstm.input_size).transpose(0, 1)  # [T, S, F]
        is_first = episode_starts.reshape(count, -1).T > 0.5
        is_valid = None
        if not bool(torch.isfinite(x.detach().sum())):
            finite = torch.isfinite(x.detach()).all(dim=-1)
            x, is_valid = x.masked_fill(~finite.unsqueeze(-1), 0.0), finite | is_first
        y, state = self._run(lstm, x, lstm.from_host(lstm_states, x.dtype), is_first, is_valid)
        return y.transpose(0, 1).flatten(0, 1), lstm.to_host(state)

    def _run(self, cell: Cell, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        """One call a block; a step-by-step judge overrides it in the tests."""
        return cell.read(x, state, is_first, is_valid)

    def _predict(  # type: ignore[override]  # a recurrent policy's differs from a policy's, in the host too
        self, observation: Any, lstm_states: Any, episode_starts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As the host does it, of as many streams as there are observations."""
        check_streams(batch_of(observation), lstm_states[0].shape[1])
        return super()._predict(observation, lstm_states, episode_starts, deterministic)

    # ---------------------------------------------------------------- time-first blocks, for FastRecurrentPPO

    def initial_memory(self, batch_size: int) -> Memory:
        """Newborn memories of actor and critic."""
        own = None if self.lstm_critic is None else self.lstm_critic.initial(batch_size, self.device)
        return Memory(self.lstm_actor.initial(batch_size, self.device), own)

    def pack_memory(self, memory: Memory) -> Tensor:
        """One vector a stream [B, S]: the actor's memory, then the critic's."""
        actor = self.lstm_actor.pack(memory.pi)
        packed: Tensor = actor if memory.vf is None else torch.cat((actor, self.lstm_critic.pack(memory.vf)), dim=1)
        return packed

    def unpack_memory(self, vector: Tensor) -> Memory:
        """Inverse of ``pack_memory``."""
        if self.lstm_critic is None:
            return Memory(self.lstm_actor.unpack(vector), None)
        actor, critic = vector.chunk(2, dim=1)
        return Memory(self.lstm_actor.unpack(actor), self.lstm_critic.unpack(critic))

    @torch.no_grad()
    def act_step(self, obs: PyTorchObs, memory: Memory, flags: SequenceFlags) -> tuple[Tensor, Tensor, Tensor, Memory]:
        """One step of who acts; ``memory`` is given away.

        Args:
            obs: a batch of B observations.
            memory: before the step.
            flags: [1, B].

        Returns:
            actions [B, ...], values [B], log-probabilities [B], the memory after the step.
        """
        if quick_act is not None and flags.is_valid is None and quick_act.serves_act(self, obs, memory.pi):
            states = [state for state in memory if state is not None]
            *said, states = quick_act.act(self, cast(Tensor, obs), states, flags.is_first)
            return said[0], said[1], said[2], Memory(states[0], states[1] if len(states) > 1 else None)
        pi_features, vf_features = self._both_features(obs)
        latent_pi, pi = self._sequence(self.lstm_actor, self.lstm_actor.act, pi_features, memory.pi, flags)
        vf = memory.vf
        if self.lstm_critic is not None:
            latent_vf, vf = self._sequence(self.lstm_critic, self.lstm_critic.act, vf_features, memory.vf, flags)
        else:
            latent_vf = latent_pi if self.shared_lstm else self._critic_alone(vf_features)
        after = Memory(pi, vf)
        if quick_act is not None and quick_act.serves_heads(self, latent_pi):
            actions, values, log_probs = quick_act.speak(self, latent_pi, latent_vf)
            return actions, values, log_probs, after
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(latent_pi))
        actions = distribution.get_actions()
        log_probs = distribution.log_prob(actions)
        values = self.value_net(self.mlp_extractor.forward_critic(latent_vf)).flatten()
        return actions.reshape(-1, *cast(tuple[int, ...], self.action_space.shape)), values, log_probs, after

    @torch.no_grad()
    def values_after(self, obs: PyTorchObs, memory: Memory, flags: SequenceFlags) -> Tensor:
        """Values [B] of the observations that follow; writes nothing that is kept."""
        features = self._both_features(obs)[1]
        if self.lstm_critic is not None:
            latent, _ = self._sequence(self.lstm_critic, self.lstm_critic.run, features, memory.vf, flags)
        elif self.shared_lstm:
            latent, _ = self._sequence(self.lstm_actor, self.lstm_actor.run, features, memory.pi, flags)
        else:
            latent = self._critic_alone(features)
        values: Tensor = self.value_net(self.mlp_extractor.forward_critic(latent)).flatten()
        return values

    def evaluate_sequence(
        self, obs: PyTorchObs, actions: Tensor, memory: Memory, flags: SequenceFlags
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judges the actions of a block with gradients through time.

        Args:
            obs: [T * B, ...], time by time.
            actions: [T * B, ...].
            memory: before the first step.
            flags: [T, B].

        Returns:
            values, log-probabilities and entropies (None where there is no closed form), each [T * B].
        """
        pi_features, vf_features = self._both_features(obs)
        latent_pi, _ = self._sequence(self.lstm_actor, self.lstm_actor.run, pi_features, memory.pi, flags)
        if self.lstm_critic is not None:
            latent_vf, _ = self._sequence(self.lstm_critic, self.lstm_critic.run, vf_features, memory.vf, flags)
        else:
            latent_vf = latent_pi.detach() if self.shared_lstm else self._critic_alone(vf_features)
        if heads_lanes is not None and quick_act is not None and quick_act.serves_heads(self, latent_pi):
            judged: tuple[Tensor, Tensor, Tensor] = heads_lanes.judge(self, latent_pi, latent_vf, actions)
            return judged
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(latent_pi))
        values = self.value_net(self.mlp_extractor.forward_critic(latent_vf)).flatten()
        return values, distribution.log_prob(actions), distribution.entropy()

    def _sees_vectors(self) -> bool:
        """Whether features are the observation as it is: SB3's FlattenExtractor on a vector, as nobody changed it."""
        extractor, space = getattr(self, "features_extractor", None), self.observation_space
        plain = type(extractor) is FlattenExtractor and self.share_features_extractor
        own = type(self).extract_features is RecurrentActorCriticPolicy.extract_features
        return plain and own and isinstance(space, spaces.Box) and len(space.shape) == 1

    def _both_features(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        if (
            isinstance(obs, Tensor)
            and self.sees_vectors
            and obs.dtype == torch.float32
            and not any(self.extractor_hooks)
        ):
            return obs, obs
        features = self.extract_features(obs)
        return features if isinstance(features, tuple) else (features, features)

    def _critic_alone(self, features: Tensor) -> Tensor:
        assert self.critic is not None
        return cast(Tensor, self.critic(features))

    @staticmethod
    def _sequence(
        cell: Cell, call: Callable[..., tuple[Tensor, Any]], features: Tensor, state: Any, flags: SequenceFlags
    ) -> tuple[Tensor, Any]:
        """Runs features [T * B, F]; returns read-outs [T * B, width] and the state."""
        x = features.reshape(*flags.is_first.shape, cell.input_size)
        y, after = call(x, state, flags.is_first, flags.is_valid, flags.phase)
        return y.flatten(0, 1), after

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """What ``policy.save`` keeps, so that ``policy.load`` builds the same sizes."""
        return {
            **super()._get_constructor_parameters(),
            "share_features_extractor": self.share_features_extractor,
            "lstm_hidden_size": self.lstm_output_dim,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
        }


class FiniteLinear(nn.Linear):
    """A linear layer that takes rows which are not finite as zero."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not bool(torch.isfinite(input.detach().sum())):
            input = input.masked_fill(~torch.isfinite(input.detach()).all(dim=-1, keepdim=True), 0.0)
        return super().forward(input)


class HopePolicy(MemoryActorCritic):
    """An actor-critic whose memory is a core of ours: ``RecurrentPPO("HopePolicy", env)``.

    Levels of scope ``never`` outlive episodes, in collection and in training alike. Learner-time levels are ordinary
    parameters here: the host's optimizer steps all of them at every update.

    Args:
        observation_space: Box or Discrete; images: ``HopeCnnPolicy``, Dict: ``HopeMultiInputPolicy``.
        action_space: any that RecurrentPPO takes.
        lr_schedule: of the optimizer.
        core: name of a core (``nl-agents list cores``), or a callable ``core(input_size=, width=, **core_kwargs)``.
        core_kwargs: options of the core.
        lstm_hidden_size: width of the core's read-out; the name is RecurrentPPO's.
        options: all else that RecurrentPPO's policies take (``net_arch``, ``shared_lstm``, ``enable_critic_lstm``,
            ``features_extractor_class``, ``optimizer_class`` ...).

    Raises:
        ConfigError: options of an LSTM, or of no such core.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        core: str | CoreMaker = "hope",
        core_kwargs: dict[str, Any] | None = None,
        lstm_hidden_size: int = 128,
        **options: Any,
    ) -> None:
        foreign = sorted({"n_lstm_layers", "lstm_kwargs"} & options.keys())
        if foreign:
            raise ConfigError(
                f"{type(self).__name__} has no {' and no '.join(foreign)}: its memory is policy_kwargs=dict(core=..., "
                "core_kwargs=...); FastLstmPolicy is the LSTM with those options"
            )
        super().__init__(observation_space, action_space, lr_schedule, lstm_hidden_size=lstm_hidden_size, **options)
        self.core, self.core_kwargs = core, dict(core_kwargs or {})
        if isinstance(self.critic, nn.Linear):
            self.critic = FiniteLinear(self.critic.in_features, self.critic.out_features)
        self._install(self._make_cell, lr_schedule)

    def _make_cell(self) -> CoreCell:
        return CoreCell(make_core(self.core, self.features_dim, self.lstm_output_dim, self.core_kwargs))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Also the core and its options."""
        return {**super()._get_constructor_parameters(), "core": self.core, "core_kwargs": self.core_kwargs}


class HopeCnnPolicy(HopePolicy):
    """``HopePolicy`` for images, by SB3's NatureCNN."""

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **{"features_extractor_class": NatureCNN, **options})


class HopeMultiInputPolicy(HopePolicy):
    """``HopePolicy`` for Dict observations, by SB3's CombinedExtractor."""

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **{"features_extractor_class": CombinedExtractor, **options})


class FastLstmPolicy(MemoryActorCritic):
    """sb3-contrib's LSTM policy with its Python loop over time taken out: the honest baseline.

    Same options, parameters, names and initial values as ``MlpLstmPolicy``, so saved weights go either way.

    Args:
        spaces_and_schedule: observation space, action space, learning-rate schedule.
        options: all that RecurrentPPO's policies take, ``n_lstm_layers`` and ``lstm_kwargs`` among them.
    """

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **options)
        self.n_lstm_layers = self.lstm_actor.num_layers
        FusedLstm.take_over(self.lstm_actor)  # the host has built and initialised it
        if self.lstm_critic is not None:
            FusedLstm.take_over(self.lstm_critic)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Also the LSTM's options."""
        own = {"n_lstm_layers": self.n_lstm_layers, "lstm_kwargs": self.lstm_kwargs}
        return {**super()._get_constructor_parameters(), **own}


class FastLstmCnnPolicy(FastLstmPolicy):
    """``FastLstmPolicy`` for images."""

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **{"features_extractor_class": NatureCNN, **options})


class FastLstmMultiInputPolicy(FastLstmPolicy):
    """``FastLstmPolicy`` for Dict observations."""

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **{"features_extractor_class": CombinedExtractor, **options})
