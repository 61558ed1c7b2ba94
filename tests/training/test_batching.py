from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from evsys_hydra.training.batching import Batches


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=400),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_every_epoch_sees_every_example_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = Batches(lengths, batch_size, seed)
    for epoch in range(2):
        start = epoch * batches.steps_per_epoch
        seen = [batches.at(start + step) for step in range(batches.steps_per_epoch)]
        assert Counter(member for batch in seen for member in batch) == Counter(range(len(lengths)))
        assert all(len(batch) <= batch_size for batch in seen)


def test_the_order_is_a_function_of_seed_and_step() -> None:
    lengths = [place * 7 % 50 for place in range(100)]
    a, b = Batches(lengths, 4, seed=1), Batches(lengths, 4, seed=1)
    assert [a.at(step) for step in range(60)][37] == b.at(37)
    assert a.at(0) != Batches(lengths, 4, seed=2).at(0)
    assert a.at(0) != a.at(a.steps_per_epoch)


def test_batches_have_little_padding() -> None:
    lengths = [10 + place * 37 % 200 for place in range(2000)]
    batches = Batches(lengths, 16, seed=0)
    chosen = [[lengths[member] for member in batches.at(step)] for step in range(batches.steps_per_epoch)]
    padded = sum(len(batch) * max(batch) for batch in chosen)
    assert sum(lengths) / padded > 0.95
