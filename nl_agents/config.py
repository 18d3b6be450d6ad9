"""Every option of a life, as one tree of dataclasses that the command line, the run folder and the code share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_type_hints

from nl_agents.errors import ConfigError

CoreName = Literal[
    "hope", "cms", "self-modifying", "gated-delta", "titans", "attention", "diagonal", "lstm", "gru", "feed-forward",
    "mlp",
]  # fmt: skip
OptimizerName = Literal["deep-momentum", "adamw", "element-adamw", "trac"]


@dataclass
class MemoryConfig:
    """Level 0: the recurrent core."""

    core: str = "hope"
    """hope, cms, self-modifying, gated-delta, titans, attention, diagonal, lstm, gru, feed-forward or mlp"""
    width: int = 64
    """features of the core and of the encoder"""
    scope: Literal["episode", "never", "split"] = "never"
    """peer cores: what clears their state; split is half of each, where the core can (Hope has heads of both kinds)"""
    heads: int = 4
    """heads of the self-modifying memory"""
    key_size: int = 16
    """features of a key of one head"""
    chunk: int = 32
    """env steps for which self-made projections stay anchored"""
    level_period: int = 64
    """env steps between two writes of the act-time level"""
    slow_periods: tuple[int, ...] = (4, 16)
    """learner updates between two steps of each learner-time level"""
    cms_variant: Literal["sequential", "nested", "independent"] = "sequential"
    """cms core: levels chained, chained with re-initialisation, or side by side"""
    cms_periods: tuple[int, ...] = (8, 64)
    """cms core: env steps between two writes of each act-time level, fastest first"""
    depth: int = 2
    """mlp core: hidden layers"""
    activation: Literal["relu", "leaky-relu", "tanh", "silu", "crelu"] = "relu"
    """mlp core: what follows every layer"""
    layer_norm: bool = False
    """mlp core: a layer norm before every activation"""
    inputs: Literal["observation", "all"] = "all"
    """what the policy sees: the observation alone, or also last action, last reward and the first-step flag"""
    grid: Literal["scaled", "one-hot"] = "scaled"
    """MiniGrid's codes as a number each, or one-hot: seven times the features, where kinds of objects must be told"""


@dataclass
class PPOConfig:
    """The outer loss on fresh experience."""

    num_steps: int = 128
    """env steps a stream in one rollout, also the length of back-propagation through time"""
    num_epochs: int = 4
    """passes over a rollout"""
    num_minibatches: int = 4
    """minibatches a pass; each holds whole streams"""
    gamma: float = 0.99
    """discount"""
    gae_lambda: float = 0.95
    """lambda of generalised advantages"""
    clip: float = 0.2
    """half-width of the trusted range of the probability ratio"""
    entropy: float = 0.01
    """weight of the entropy bonus (nats)"""
    value: float = 0.5
    """weight of the value loss"""
    prediction: float = 1.0
    """weight of the outer prediction loss: next change of the observation, and reward"""
    max_grad_norm: float = 0.5
    """bound of the gradient's norm, a level"""


@dataclass
class OptimizerConfig:
    """Level 1: the inner-loop learner."""

    name: OptimizerName = "deep-momentum"
    """deep-momentum (guarded neural memory of gradients), adamw, element-adamw (counts steps a weight) or trac"""
    lr: float = 1e-3
    """learning rate"""
    weight_decay: float = 0.0
    """decoupled weight decay"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay of Adam's two moments; deep-momentum has its own"""


@dataclass
class ReplayConfig:
    """Level 1: replayed experience."""

    ratio: float = 1.0
    """replayed streams for each fresh stream of a minibatch; 0 switches replay off"""
    reservoir: int = 768
    """stream chunks kept as a uniform sample of the whole life"""
    recent: int = 128
    """stream chunks kept of the newest experience"""
    burn_in: int = 8
    """first steps of a replayed chunk that only warm up its stored memory"""
    policy: float = 0.5
    """weight of the V-trace policy gradient on replayed chunks"""
    gradient: Literal["clipped", "v-trace"] = "clipped"
    """replayed policy gradient: surrogate clipped around the behaviour, or V-trace's own (unclipped; CLEAR)"""
    clone: Literal["better", "all"] = "better"
    """what is cloned: only what went better than expected, or everything alike (CLEAR)"""
    clone_policy: float = 0.1
    """weight of KL(stored behaviour || policy), itself weighted by how good the behaviour was"""
    clone_value: float = 0.5
    """weight of the squared distance to stored values, weighted alike"""
    state_codec: str = "float32"
    """how a stored chunk keeps the memory it began with: float32 (exact), bf16, int8 or low-rank:4"""


@dataclass
class UpkeepConfig:
    """What keeps a network able to learn, or what it has learnt in place; each part is off at 0."""

    l2_init: float = 0.0
    """weight of the summed squared distance to the first weights (L2-init)"""
    shrink: float = 0.0
    """share by which weights fade at every learner update (soft shrink-and-perturb)"""
    perturb: float = 0.0
    """share of a newborn's weights that comes in at every learner update"""
    redo_period: int = 0
    """learner updates between two looks for dormant units (ReDo; mlp core)"""
    redo_threshold: float = 0.1
    """score at or below which a unit counts as dormant"""
    replacement: float = 0.0
    """share of mature units that continual backprop replaces at every learner update (mlp core)"""
    maturity: int = 1_000
    """learner updates before a unit may be replaced"""
    utility_decay: float = 0.99
    """decay of continual backprop's utilities"""
    ewc: float = 0.0
    """weight of elastic weight consolidation (needs to be told of switches)"""
    ewc_decay: float | None = None
    """decay of old importance at a switch (online EWC); None keeps every task's (EWC)"""
    ewc_draws: int = 8
    """draws of actions from which the Fisher information of a stream is estimated"""
    permanent_every: int = 0
    """rollouts between two consolidations of transient into permanent values"""
    permanent_lr: float = 1e-4
    """learning rate of the permanent values"""
    transient_decay: float = 0.75
    """what is left of the transient values after a consolidation"""


@dataclass
class ControlConfig:
    """Level 2: the meta-controller."""

    enabled: bool = True
    """adjust periods, rates and replay ratio from long-horizon returns"""
    epoch_steps: int = 0
    """least env steps of a decision epoch; 0 derives it from the slowest period"""
    warmup_steps: int = 100_000
    """env steps during which nothing is changed"""


@dataclass
class RunConfig:
    """How a life is kept."""

    checkpoint_every: int = 50_000
    """env steps between two checkpoints"""
    keep: int = 3
    """checkpoints kept, a ring"""
    log_every: int = 1
    """rollouts between two rows of progress.csv"""
    on_nonfinite: Literal["continue", "stop"] = "continue"
    """after a refused non-finite step: go on and count it, or stop with a checkpoint"""


@dataclass
class AgentConfig:
    """All options of an agent."""

    memory: MemoryConfig = field(default_factory=MemoryConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    run: RunConfig = field(default_factory=RunConfig)
    upkeep: UpkeepConfig = field(default_factory=UpkeepConfig)
    uniform: bool = False
    """act at random and learn nothing"""

    def check(self) -> None:
        """Raises ConfigError for a value that cannot work."""
        at_least_one = {
            "memory.width": self.memory.width,
            "ppo.num_steps": self.ppo.num_steps,
            "ppo.num_epochs": self.ppo.num_epochs,
            "ppo.num_minibatches": self.ppo.num_minibatches,
            "run.checkpoint_every": self.run.checkpoint_every,
            "run.keep": self.run.keep,
            "run.log_every": self.run.log_every,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ConfigError(f"{name} must be >= 1, got {value}")
        if not 0.0 < self.ppo.gamma <= 1.0 or not 0.0 <= self.ppo.gae_lambda <= 1.0:
            raise ConfigError(
                "ppo.gamma must lie in (0, 1] and ppo.gae_lambda in [0, 1], "
                f"got {self.ppo.gamma} and {self.ppo.gae_lambda}"
            )
        if not self.optimizer.lr > 0.0:
            raise ConfigError(f"optimizer.lr must be > 0, got {self.optimizer.lr}")
        if self.replay.ratio < 0.0:
            raise ConfigError(f"replay.ratio must be >= 0, got {self.replay.ratio}; 0 switches replay off")
        if self.replay.ratio > 0.0 and self.replay.reservoir + self.replay.recent < 1:
            raise ConfigError("replay.ratio > 0 needs replay.reservoir + replay.recent >= 1 chunks")
        if (
            self.upkeep.ewc_draws < 1
            or not 0.0 <= self.upkeep.transient_decay <= 1.0
            or self.upkeep.permanent_every < 0
        ):
            raise ConfigError(
                "upkeep.ewc_draws must be >= 1, upkeep.permanent_every >= 0 and upkeep.transient_decay in [0, 1], got "
                f"{self.upkeep.ewc_draws}, {self.upkeep.permanent_every} and {self.upkeep.transient_decay}"
            )
        if self.replay.burn_in >= self.ppo.num_steps:
            raise ConfigError(f"replay.burn_in {self.replay.burn_in} must be < ppo.num_steps {self.ppo.num_steps}")


Config = TypeVar("Config")


def apply_options(config: AgentConfig, options: Mapping[str, Any]) -> AgentConfig:
    """Sets options by dotted name (``{"ppo.entropy": 0.03}``), in place; returns the config.

    Raises:
        ConfigError: no such option.
    """
    for name, value in options.items():
        *parts, last = name.split(".")
        owner: Any = config
        for part in parts:
            owner = getattr(owner, part, None)
        if not hasattr(owner, last):
            raise ConfigError(f"no option {name!r}; options have the form area.name, for example ppo.entropy")
        setattr(owner, last, value)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as plain JSON values."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config))))


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Rebuilds a config; an unknown key is an error, so that a file of another version never half-applies.

    Raises:
        ConfigError: a key that ``kind`` does not have.
    """
    hints = get_type_hints(kind)
    known = {entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{kind.__name__} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    return kind(**arguments)
