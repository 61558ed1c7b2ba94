from __future__ import annotations

import pytest

from evsys_hydra.training.schedule import ScheduleName, multiplier, steps_of, warmup_steps


def test_warmup_is_a_share_or_a_number_of_steps() -> None:
    assert [warmup_steps(warmup, 100) for warmup in (0, 0.05, 0.001, 1, 7)] == [0, 5, 1, 1, 7]
    assert warmup_steps(0.05, 1) == 0  # the only step trains


def test_a_share_of_the_steps_is_the_one_on_paper() -> None:
    assert [steps_of(share, 100) for share in (0.55, 0.551, 0.29, 1.1)] == [55, 56, 29, 110]


@pytest.mark.model
@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize(
    ("schedule", "theirs"), [("constant", "constant_with_warmup"), ("linear", "linear"), ("cosine", "cosine")]
)
def test_values_are_those_of_transformers(schedule: ScheduleName, theirs: str, warmup: int) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=40)
    for step in range(40):
        ours = 0.5 * multiplier(schedule, step, warmup=warmup, total=40)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()
