"""Every kind of upkeep against its authors' formula, worked out in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.optim import ElementAdamW
from nl_agents.upkeep import ContinualBackprop, ElasticWeights, InitialPull, ReDo, ShrinkPerturb, chain
from nl_agents.upkeep.elastic import diagonal_fisher
from nl_agents.upkeep.redo import dormancy_scores
from nl_agents.upkeep.units import forget


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(norm: bool = False) -> tuple[nn.Sequential, nn.Linear]:
    """Three inputs, two hidden layers of five, two outputs."""
    torch.manual_seed(1)
    between: list[nn.Module] = [nn.LayerNorm(5)] if norm else []
    body = nn.Sequential(nn.Linear(3, 5), *between, nn.ReLU(), nn.Linear(5, 5), nn.ReLU())
    return body, nn.Linear(5, 2)


def test_l2_init_is_the_summed_square_of_the_way_gone() -> None:
    body, _ = network()
    pull = InitialPull(body.parameters(), 0.1)
    assert float(pull.penalty().detach()) == 0.0
    with torch.no_grad():
        for parameter in body.parameters():
            parameter += 0.5
    count = sum(parameter.numel() for parameter in body.parameters())
    assert float(pull.penalty().detach()) == pytest.approx(0.1 * 0.25 * count, rel=1e-5)
    pull.penalty().backward()
    assert all(torch.allclose(p.grad, torch.full_like(p, 0.1), atol=1e-6) for p in body.parameters())


def test_shrink_and_perturb_mixes_in_a_newborn() -> None:
    body, _ = network(norm=True)
    part = ShrinkPerturb(body.parameters(), 0.3, 0.2, chance())
    before = [parameter.detach().clone() for parameter in body.parameters()]
    part.after_step()
    twin = chance()
    for parameter, old, mean, sd in zip(body.parameters(), before, part.means, part.deviations, strict=True):
        fresh = mean + (sd * torch.randn(old.shape, generator=twin) if float(sd) else 0.0)
        assert torch.allclose(parameter, 0.7 * old + 0.2 * fresh, atol=1e-6)


def test_shrink_and_perturb_leaves_gains_of_a_norm_where_they_were_born() -> None:
    body, _ = network(norm=True)
    part = ShrinkPerturb(body.parameters(), 0.5, 0.5, chance())
    norm = body[1]
    assert isinstance(norm, nn.LayerNorm)
    with torch.no_grad():
        norm.weight += 1.0
    for _ in range(40):
        part.after_step()
    assert torch.allclose(norm.weight, torch.ones(5), atol=1e-6)
    assert 0.0 < float(body[0].weight.detach().std()) < 1.0  # type: ignore[union-attr, operator]


def test_dormancy_scores_are_relative_to_the_layer() -> None:
    scores = dormancy_scores(torch.tensor([0.0, 1.0, 3.0]))
    assert torch.allclose(scores, torch.tensor([0.0, 0.75, 2.25]))
    assert torch.equal(dormancy_scores(torch.zeros(3)), torch.zeros(3))


def silence(body: nn.Sequential, unit: int) -> None:
    """Makes a unit of the first layer silent for every input that the tests use."""
    first = body[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight[unit] = 0.0
        first.bias[unit] = -1.0


def train_once(body: nn.Sequential, head: nn.Linear, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    (head(body(x)) - 1.0).square().mean().backward()
    optimizer.step()


def test_redo_renews_exactly_the_dormant_units_and_the_optimizer_forgets_them() -> None:
    body, head = network()
    silence(body, 2)
    layers = chain(body, [head])
    optimizer = ElementAdamW([*body.parameters(), *head.parameters()], lr=1e-4)
    part = ReDo(layers[:1], optimizer, period=2, threshold=0.0, generator=chance())
    x = torch.rand(64, 3, generator=chance(3))
    first, second = body[0], body[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    train_once(body, head, optimizer, x)
    part.after_step()
    assert part.recycled == 0, "a period of two updates"
    train_once(body, head, optimizer, x)
    assert layers[0].absolute is not None
    dormant = torch.nonzero(layers[0].absolute == 0).flatten().tolist()
    assert 2 in dormant
    before = first.weight.detach().clone()
    part.after_step()
    for unit in range(5):
        reborn = unit in dormant
        assert torch.equal(first.weight[unit], before[unit]) != reborn
        assert bool((second.weight[:, unit] == 0).all()) == reborn
        for weight, view in ((first.weight, unit), (second.weight, (slice(None), unit))):
            state = optimizer.state[weight]
            assert bool((state["step"][view] == 0).all()) == reborn
            assert not reborn or bool((state["exp_avg_sq"][view] == 0).all())
    assert part.recycled >= 1 and part.metrics()["dormant_fraction"] > 0
    assert float(first.weight[2].detach().abs().max()) <= layers[0].bound


def test_what_acts_without_gradients_leaves_no_trace() -> None:
    body, head = network()
    layers = chain(body, [head])
    with torch.no_grad():
        body(torch.rand(4, 3))
    assert layers[0].absolute is None
    body(torch.rand(4, 3))
    assert layers[0].absolute is not None and layers[1].absolute is not None


def test_continual_backprop_against_its_algorithm_in_loops() -> None:
    body, head = network()
    layers = chain(body, [head])
    part = ContinualBackprop(layers[:1], None, replacement=0.25, maturity=3, decay=0.9, generator=chance())
    first, second = body[0], body[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    utility, average, age, owed = [0.0] * 5, [0.0] * 5, [0] * 5, 0.0
    for step in range(8):
        x = torch.rand(16, 3, generator=chance(step))
        body(x)
        hidden = torch.relu(first(x)).detach()
        out = second.weight.detach().clone()
        bias = second.bias.detach().clone()
        part.after_step()
        for unit in range(5):
            age[unit] += 1
            worth = float(hidden[:, unit].abs().mean() * out[:, unit].abs().sum())
            utility[unit] = 0.9 * utility[unit] + 0.1 * worth
            average[unit] = 0.9 * average[unit] + 0.1 * float(hidden[:, unit].mean())
        ripe = [unit for unit in range(5) if age[unit] > 3]
        owed += 0.25 * len(ripe)
        while owed >= 1.0 and ripe:
            owed -= 1.0
            weakest = min(ripe, key=lambda unit: utility[unit] / (1 - 0.9 ** age[unit]))
            ripe.remove(weakest)
            mean = average[weakest] / (1 - 0.9 ** age[weakest])
            bias = bias + out[:, weakest] * mean
            utility[weakest], average[weakest], age[weakest] = 0.0, 0.0, 0
            assert bool((second.weight[:, weakest] == 0).all())
        if step >= 3:
            assert torch.allclose(second.bias, bias, atol=1e-5)
        assert torch.allclose(part.utility[0], torch.tensor(utility), atol=1e-5)
        assert part.age[0].tolist() == age
        assert part.owed[0] == pytest.approx(owed)
    assert part.replaced == 4


def test_young_units_are_safe() -> None:
    body, head = network()
    part = ContinualBackprop(chain(body, [head]), None, 1.0, 100, 0.9, chance())
    for _ in range(50):
        body(torch.rand(4, 3))
        part.after_step()
    assert part.replaced == 0


def test_a_new_unit_does_not_change_what_the_network_says_on_average() -> None:
    """Outgoing weights are zero and the mean moves into the bias: exact where the unit's activity is constant."""
    body, head = network()
    layers = chain(body, [head])
    part = ContinualBackprop(layers, None, 0.2, 5, 0.5, chance())
    x = torch.rand(1, 3, generator=chance(4)).expand(8, 3)
    for _ in range(5):
        body(x)
        part.after_step()
    before = head(body(x)).detach()
    part.after_step()
    assert part.replaced == 2  # one of five in each layer
    assert torch.allclose(head(body(x)), before, atol=1e-4)


def test_element_adamw_is_adamw_until_somebody_forgets() -> None:
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    models[1].load_state_dict(models[0].state_dict())
    mine = ElementAdamW(models[0].parameters(), lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(models[1].parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(30):
        x = torch.randn(5, 4, generator=chance(step))
        for model, optimizer in zip(models, (mine, theirs), strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert torch.allclose(models[0].weight, models[1].weight, atol=1e-6)
    forget(mine, models[0].weight, 0, torch.tensor([1]))
    before = models[0].weight.detach().clone()
    models[0](torch.ones(1, 4)).sum().backward()
    mine.param_groups[0]["weight_decay"] = 0.0
    mine.zero_grad()
    models[0](torch.ones(1, 4)).sum().backward()
    mine.step()
    moved = (models[0].weight - before)[1].abs()
    assert torch.allclose(moved, torch.full((4,), 1e-2), rtol=1e-3), (
        "a reborn unit takes Adam's first step, of length lr"
    )


def test_forgetting_knows_slow_momenta_too() -> None:
    weight = nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.SGD([weight])
    optimizer.state[weight] = {"slow": torch.ones(4, 3, 2), "step": torch.ones(()), "exp_avg": torch.ones(3, 2)}
    forget(optimizer, weight, 1, torch.tensor([0]))
    assert optimizer.state[weight]["slow"].sum() == 12 and optimizer.state[weight]["exp_avg"][:, 0].sum() == 0
    assert optimizer.state[weight]["step"] == 1


def test_ewc_is_the_sum_of_quadratics_around_every_task() -> None:
    theta = nn.Parameter(torch.tensor([0.0, 0.0]))
    part = ElasticWeights([theta], weight=4.0)
    assert part.penalty() is None
    anchors, fishers = [], []
    for place, fisher in (([1.0, 2.0], [3.0, 0.0]), ([-1.0, 5.0], [1.0, 2.0])):
        with torch.no_grad():
            theta.copy_(torch.tensor(place))
        part.consolidate([torch.tensor(fisher)])
        anchors.append(torch.tensor(place))
        fishers.append(torch.tensor(fisher))
    with torch.no_grad():
        theta.copy_(torch.tensor([0.3, -0.7]))
    penalty = part.penalty()
    assert penalty is not None
    penalty.backward()
    by_hand = sum(4.0 * f * (theta.detach() - a) for f, a in zip(fishers, anchors, strict=True))
    assert isinstance(by_hand, Tensor) and theta.grad is not None
    assert torch.allclose(theta.grad, by_hand, atol=1e-5)


def test_online_ewc_fades_importance_and_anchors_at_the_newest_weights() -> None:
    theta = nn.Parameter(torch.tensor([1.0]))
    part = ElasticWeights([theta], weight=2.0, decay=0.5)
    part.consolidate([torch.tensor([8.0])])
    with torch.no_grad():
        theta.fill_(3.0)
    part.consolidate([torch.tensor([1.0])])
    with torch.no_grad():
        theta.fill_(4.0)
    penalty = part.penalty()
    assert penalty is not None and float(penalty.detach()) == pytest.approx(
        0.5 * 2.0 * (0.5 * 8.0 + 1.0) * (4.0 - 3.0) ** 2
    )


def test_fisher_of_a_categorical_is_its_covariance() -> None:
    """F = diag(p) - p p^T for logits; its diagonal is p (1 - p), n times over n steps."""
    logits = nn.Parameter(torch.tensor([0.2, -0.4, 1.0]))
    generator, steps = chance(5), 6

    def scores(draws: int) -> list[Tensor]:
        found = []
        for _ in range(draws):
            taken = torch.multinomial(logits.detach().softmax(-1), steps, replacement=True, generator=generator)
            found.append(logits.log_softmax(-1)[taken].sum())
        return found

    (fisher,) = diagonal_fisher(scores(20_000), [logits])
    p = logits.detach().softmax(-1)
    assert torch.allclose(fisher, steps * p * (1 - p), rtol=0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InitialPull([], -1.0), "weight of L2-init must be >= 0, got -1.0"),
        (lambda: ShrinkPerturb([], 2.0, 0.0, chance()), r"shrink must lie in \[0, 1\].*got 2.0 and 0.0"),
        (lambda: ReDo([], None, 0, 0.1, chance()), "period >= 1 and a threshold >= 0, got 0 and 0.1"),
        (lambda: ContinualBackprop([], None, 2.0, 1, 0.9, chance()), r"replacement in \[0, 1\].*got 2.0, 1 and 0.9"),
        (lambda: ElasticWeights([], 1.0, 1.5), r"decay in \[0, 1\] or None, got 1.0 and 1.5"),
        (lambda: chain([nn.Conv2d(1, 1, 1)], []), "came to Conv2d"),
        (lambda: chain([nn.Linear(2, 2)], []), "an activation last"),
        (lambda: chain([nn.Linear(2, 4), nn.ReLU()], [nn.Linear(8, 1)]), "4 units go out into a layer of 8 inputs"),
    ],
)
def test_bad_options_are_told(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ConfigError, match=message):
        build()


def test_first_weights_set_the_bound_of_new_ones() -> None:
    body, head = network()
    first = body[0]
    assert isinstance(first, nn.Linear)
    (layer, *_) = chain(body, [head])
    assert layer.bound == pytest.approx(math.sqrt(3.0) * float(first.weight.detach().std(correction=0)), rel=1e-5)
