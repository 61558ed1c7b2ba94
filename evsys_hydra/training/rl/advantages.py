"""How much better each answer is than the others to the same prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TINY = 1e-4
"""Added to the standard deviation, as the published implementations do."""


def group_advantages(rewards: Sequence[float | None], group: int, *, scale: bool) -> NDArray[np.float32]:
    """Rewards minus the mean of their group, over its standard deviation if `scale`.

    Shao et al. 2024, DeepSeekMath, section 4.1.2 (GRPO); without the division Liu et al. 2025, Understanding R1-Zero-
    like training, section 3.2 (Dr. GRPO). The standard deviation is that of a sample (n - 1).

    Args:
        rewards: group by group; None: the answer could not be verified. It counts for nothing and gets 0.
        group: answers a group.

    Returns:
        An advantage for each answer; 0 throughout a group whose rewards are all the same.
    """
    values = np.array([np.nan if reward is None else reward for reward in rewards], np.float64).reshape(-1, group)
    advantages = np.zeros_like(values)
    for place, rewarded in enumerate(values):
        known = ~np.isnan(rewarded)
        if known.sum() < 2:
            continue
        centred = rewarded[known] - rewarded[known].mean()
        deviation = rewarded[known].std(ddof=1)
        advantages[place, known] = centred / (deviation + TINY) if scale else centred
    return advantages.reshape(-1).astype(np.float32)
