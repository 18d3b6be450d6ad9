"""Compiled loops on as many threads as torch uses, and on the same ones.

Only work that shares nothing it writes is divided (heads of a memory), so numbers do not depend on how many threads
there are, to the last bit. ``torch.set_num_threads`` (or ``OMP_NUM_THREADS``) says how many; the default of this
package is one.

A thread of torch's OpenMP team goes on spinning for a while when its work is finished, so a thread of ours would have
to wait for the core it spins on. Where that team can be asked it does our work too; elsewhere threads of our own do.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

Span = tuple[int, int]  # first part and behind the last
Work = Callable[[Span], None]
LEAST = 1024
"""Head-steps (steps x streams x heads) below which waking a thread costs more than it brings."""


def divided(run: Work, parts: int, work: int) -> None:
    """Calls ``run((first, behind the last))`` so that all parts are run once, on several threads where it pays.

    Args:
        run: releases the interpreter's lock for most of its time; what it raises is raised here.
        parts: how many there are.
        work: head-steps in all.
    """
    count = min(torch.get_num_threads(), parts)
    if count == 1 or work < LEAST:
        run((0, parts))
        return
    spans = list(pairwise(parts * place // count for place in range(count + 1)))
    (_on_a_pool if _team() is None else _on_the_team)(run, spans)


def _on_the_team(run: Work, spans: list[Span]) -> None:
    """Every thread of torch's team takes spans until none is left; the team may be smaller than was asked for."""
    left, raised = iter(spans), []

    def member(_: Any) -> None:
        try:
            for span in left:  # the interpreter's lock keeps two threads from the same span
                run(span)
        except BaseException as error:
            raised.append(error)

    _team()(_MEMBER(member), None, len(spans), 0)
    if raised:
        raise raised[0]


def _on_a_pool(run: Work, spans: list[Span]) -> None:
    mine, *theirs = spans
    others = [_pool(len(theirs)).submit(run, span) for span in theirs]
    run(mine)
    for other in others:
        other.result()


_MEMBER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _team() -> Any:
    """``GOMP_parallel(function, data, threads, flags)`` of the OpenMP library that came with torch; None without."""
    folder = Path(torch.__file__).parent / "lib"
    for path in (*folder.glob("libgomp*.so*"), *folder.glob("libiomp5*.so*")):
        parallel = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if parallel is not None:
            parallel.argtypes, parallel.restype = (_MEMBER, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
            return parallel
    return None


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "nl-agents-memory")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a child
