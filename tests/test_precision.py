"""What a campaign keeps of its starts stops it exactly where the blocks themselves would."""

import itertools
import random

import pytest

from mobench.precision import Known
from mobench.records import Block
from mobench.stats import MIN_INCARNATIONS, block_ns, estimate, half_width, paired_ratio


def blocks(rng: random.Random, cell: str, starts: int) -> list[Block]:
    level = rng.lognormvariate(16, 0.1)
    return [
        Block(
            cell=cell,
            incarnation=start,
            round=number,
            position=0,
            phase="steady",
            t_s=0.0,
            wall_ns=tuple(round(life * rng.lognormvariate(0, 0.02)) for _ in range(3)),
            cpu_ns=1,
            involuntary_switches=0,
            steal_ticks=0,
        )
        for start in range(starts)
        for life in [level * rng.lognormvariate(0, 0.01)]
        for number in range(rng.randint(1, 12))
        if rng.random() < 0.9
    ]


@pytest.mark.parametrize("seed", range(20))
def test_it_says_precise_where_the_intervals_of_all_blocks_are_as_narrow(seed: int) -> None:
    rng = random.Random(seed)
    own = {cell: blocks(rng, cell, 6) for cell in ("a", "b", "c")}
    known = Known("a")
    known.add_journaled(list(itertools.chain(*own.values()))[::-1])  # the order of blocks does not matter
    p50 = {cell: half_width(*(estimate((b.incarnation, block_ns(b)) for b in own[cell]) or (1, None))) for cell in own}
    ratio = {cell: half_width(*(paired_ratio(own[cell], own["a"]) or (1, None))) for cell in ("b", "c")}
    assert all(len({b.incarnation for b in each}) >= MIN_INCARNATIONS for each in own.values())
    worst_p50, worst_ratio = max(p50.values()), max(ratio.values())
    for more_p50, more_ratio in itertools.product((0.999, 1.001), repeat=2):
        asked = {"p50_half_width": worst_p50 * more_p50, "ratio_half_width": worst_ratio * more_ratio}
        assert known.is_precise(own, **asked) == (more_p50 > 1 and more_ratio > 1)


def test_too_few_starts_are_never_precise_and_a_lost_baseline_asks_for_no_ratio() -> None:
    known = Known("a")
    for number in range(MIN_INCARNATIONS):
        assert not known.is_precise(["b"], p50_half_width=1, ratio_half_width=0)
        known.add_start({"a": {0: 10.0}, "b": {0: 20.0 + number % 2}, "c": {}})
    assert known.is_precise(["b"], p50_half_width=1, ratio_half_width=0)
    assert not known.is_precise(["a", "b"], p50_half_width=1, ratio_half_width=0)
    assert known.has_run("b") and not known.has_run("c")
