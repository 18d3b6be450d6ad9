"""What each ingredient of self-modifying memory is worth: the ablation of Nested Learning's Table 6, on the probes.

    python -m benchmarks.self_modifying --tasks parity recall
    python -m benchmarks.self_modifying --form linear --chunk 1 --seeds 0 1 2 3 4
    python -m benchmarks.self_modifying --quick        # a smoke test of seconds, not a measurement

Runs ``benchmarks.memory`` with one list of cores: the whole memory, and the whole without one thing at a time. All get
the same bound of the step size, that of the whole without momentum, so that a row differs in one thing only. Not in the
list: "without CMS" (this core has none; compare ``hope``). In the paper's table the whole has an adaptive query and is
better without, so here the whole has none and a row adds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tyro

from benchmarks import memory
from nl_agents.memory.modify_rule import Form, step_bound

ABLATIONS: dict[str, str] = {
    "the whole": "",
    "without delta gradient descent": "write=gd",
    "without momentum": "momentum=false",
    "without weight decay": "decay=false",
    "without an adaptive key": "adaptive_key=false",
    "without an adaptive value": "adaptive_value=false",
    "with an adaptive query": "adaptive_query=true",
    # what the paper does not take apart
    "without adaptive step and retention": "adaptive_step=false,adaptive_retention=false",
    "without any self-modification": ",".join(
        f"adaptive_{name}=false" for name in ("key", "value", "step", "retention")
    ),
    "without targets of its own": "own_targets=false",
    "with the dot product": "objective=dot",
    "without convolution": "window=0",
}


@dataclass(frozen=True)
class Options(memory.Options):
    """The memory benchmark, with the ablation's list of cores."""

    cores: tuple[str, ...] = ()
    """cores to run beside the list, as in benchmarks.memory"""
    form: Form = "mlp"
    """form of the memories"""
    chunk: int = 8
    """env steps for which memories stay anchored; 1 is exact, and many times slower"""

    def listed(self) -> tuple[str, ...]:
        """The cores of the ablation, as ``benchmarks.memory`` reads them."""
        limit = step_bound("dgd", "l2", self.chunk)
        whole = f"self-modifying:memory={self.form},chunk={self.chunk},step_limit={limit:.3g}"
        return tuple(",".join(filter(None, (whole, change))) for change in ABLATIONS.values())


def main(options: Options) -> None:
    """See ``benchmarks.memory.main``."""
    memory.main(replace(options, cores=(*options.listed(), *options.cores)))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
