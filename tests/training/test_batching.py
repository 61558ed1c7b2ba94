from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from evsys_hydra.training.batching import Batches, split_by_length


@given(n=st.integers(1, 400), batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_epoch_sees_every_example_once(n: int, batch_size: int, seed: int) -> None:
    batches = Batches(n, batch_size, seed)
    for epoch in range(2):
        start = epoch * batches.steps_per_epoch
        seen = [batches.at(start + step) for step in range(batches.steps_per_epoch)]
        assert Counter(member for batch in seen for member in batch) == Counter(range(n))
        assert all(0 < len(batch) <= batch_size for batch in seen)


def test_the_order_is_a_function_of_seed_and_step() -> None:
    a, b = Batches(100, 4, seed=1), Batches(100, 4, seed=1)
    assert [a.at(step) for step in range(60)][37] == b.at(37)
    assert a.at(0) != Batches(100, 4, seed=2).at(0)
    assert a.at(0) != a.at(a.steps_per_epoch)


def cost(passes: list[list[int]], lengths: list[int], pass_cost: int) -> int:
    return sum(pass_cost + len(members) * max(lengths[member] for member in members) for members in passes)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    most=st.integers(1, 8),
    pass_cost=st.integers(0, 60),
)
def test_no_other_cut_of_a_step_costs_less(lengths: list[int], most: int, pass_cost: int) -> None:
    members = list(range(len(lengths)))
    passes = split_by_length(members, lengths, most=most, pass_cost=pass_cost)
    assert sorted(member for part in passes for member in part) == members
    assert max(map(len, passes)) <= most
    ordered = sorted(members, key=lengths.__getitem__)
    others = []
    for n_cuts in range(len(members)):
        for cuts in combinations(range(1, len(members)), n_cuts):
            bounds = [0, *cuts, len(members)]
            parts = [ordered[a:b] for a, b in pairwise(bounds)]
            if max(map(len, parts)) <= most:
                others.append(cost(parts, lengths, pass_cost))
    assert cost(passes, lengths, pass_cost) == min(others)


def test_examples_of_one_length_take_one_pass() -> None:
    assert len(split_by_length(range(16), [30] * 16, most=16, pass_cost=128)) == 1
