"""Which tensors step together: buckets founded, split and restored, and what the optimizer's state shows of them."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from torch import Tensor

from nl_agents.optim.bucket import Bucket

States = MutableMapping[Tensor, dict[str, Any]]


class BucketBook:
    """The buckets of an optimizer, group by group.

    Parameters that first get a gradient at the same step found a bucket together. When some of a bucket's parameters
    get a gradient and others do not (a slow level between its steps), it splits for good: so buckets find the levels
    of a nest by themselves, and every tensor keeps the clock it would have had alone. A state that was loaded is
    restored in the partition it names, which makes a resumed step equal to the bit.

    Args:
        groups: parameter groups; None for one that has no memory.
        state: the optimizer's state; kept showing live views of the buckets' buffers.
        prior: [K] weights of an untaught memory.
    """

    def __init__(self, groups: Sequence[dict[str, Any] | None], state: States, prior: Tensor) -> None:
        self._state, self._prior = state, prior
        self._buckets = [[] if group is None else self._restored(group) for group in groups]
        self.publish()

    def buckets(self) -> list[Bucket]:
        """Returns all buckets."""
        return [bucket for group in self._buckets for bucket in group]

    def live(self, index: int, group: dict[str, Any]) -> list[Bucket]:
        """Returns the buckets of a group whose parameters have gradients now, founding and splitting as needed.

        Args:
            index: index of the group.
            group: the group.
        """
        buckets = self._buckets[index]
        for place, bucket in enumerate(buckets):
            absent = [p.grad is None for p in bucket.params]
            if any(absent) and not all(absent):
                self._split(index, place, absent, group)
                return self.live(index, group)
        if sum(len(bucket.params) for bucket in buckets) < len(group["params"]):
            born = [p for p in group["params"] if p.grad is not None and not self._state.get(p)]
            kinds = dict.fromkeys((p.device, p.dtype) for p in born)
            buckets += [self._found(group, [p for p in born if (p.device, p.dtype) == kind]) for kind in kinds]
            if born:
                self._publish_group(buckets)
        return [bucket for bucket in buckets if bucket.params[0].grad is not None]

    def publish(self) -> None:
        """Makes the optimizer's state show the buckets: live views of their buffers, and their counters as of now."""
        for buckets in self._buckets:
            self._publish_group(buckets)

    def _publish_group(self, buckets: list[Bucket]) -> None:
        for identity, bucket in enumerate(buckets):
            for param, state in zip(bucket.params, bucket.states(identity), strict=True):
                self._state[param] = state

    def _split(self, index: int, place: int, absent: list[bool], group: dict[str, Any]) -> None:
        """Parts the parameters of a bucket that have a gradient now from those that have none."""
        self._publish_group(self._buckets[index])
        params = self._buckets[index][place].params
        halves = [[p for p, gone in zip(params, absent, strict=True) if gone is side] for side in (False, True)]
        self._buckets[index][place : place + 1] = [self._found(group, half) for half in halves]
        self._publish_group(self._buckets[index])

    def _found(self, group: dict[str, Any], params: list[Tensor]) -> Bucket:
        states = [dict(self._state.get(p, {})) for p in params]
        return Bucket(params, states, tuple(group["periods"]), self._prior)

    def _restored(self, group: dict[str, Any]) -> list[Bucket]:
        """Rebuilds the buckets of a group in the partition its states name; states of AdamW go by their clocks."""
        partition: dict[tuple[Any, ...], list[Tensor]] = {}
        for p in group["params"]:
            state = self._state.get(p)
            if state:
                known = state["bucket"] if "bucket" in state else f"clock {float(state['step'])}"
                partition.setdefault((known, p.device, p.dtype), []).append(p)
        return [self._found(group, params) for params in partition.values()]
