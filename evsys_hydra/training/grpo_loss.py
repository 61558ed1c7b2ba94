"""The clipped, group-relative policy gradient loss.

Shao et al. 2024, DeepSeekMath, eq. 3: for each token -min(r A, clip(r, 1 - e, 1 + e) A) + beta KL, with r the ratio of
its probability to that at sampling, A its answer's advantage, and KL by the estimator of eq. 4, exp(d) - d - 1 with
d = log p_reference - log p, times r, without which its gradient is biased (DeepSeek-AI 2025, DeepSeek-V3.2, section
3.1). What it is averaged over is `loss_type`: answers (eq. 3), tokens (Yu et al. 2025, DAPO,
eq. 8) or a constant number of tokens (Liu et al. 2025, Dr. GRPO).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .chat import Tokens
from .distributed import ALONE, Ranks
from .grpo_config import GRPOConfig
from .policy import Policy, n_trained

if TYPE_CHECKING:
    from torch import Tensor


class GRPOLoss:
    """Loss of a step's answers; `take` gives it those of the next step."""

    def __init__(self, policy: Policy, config: GRPOConfig, ranks: Ranks = ALONE) -> None:
        self.policy = policy
        self._ranks = ranks
        self._config = config
        self._sequences: Sequence[Tokens] = []
        self._advantages: NDArray[np.float32] = np.zeros(0, np.float32)
        self._old: Sequence[Tensor] | None = None
        self._reference: Sequence[Tensor] | None = None
        self._figures: dict[int, tuple[float, float]] = {}

    def take(
        self,
        sequences: Sequence[Tokens],
        advantages: NDArray[np.float32],
        old: Sequence[Tensor] | None,
        reference: Sequence[Tensor] | None,
    ) -> None:
        """The answers of a step.

        Args:
            old: log-probabilities of each answer's tokens when it was sampled; None: as they are now.
            reference: those of the reference; None: beta is 0.
        """
        self._sequences, self._advantages, self._old, self._reference = sequences, advantages, old, reference
        self._figures = {}

    def useful(self) -> list[int]:
        """The answers that have a gradient: without beta those whose advantage is not 0."""
        everyone = range(len(self._sequences))
        return [place for place in everyone if self._reference is not None or self._advantages[place] != 0]

    def sizes(self, members: Sequence[int]) -> tuple[int, int]:
        """Tokens of the members; and what the loss is divided by, which is that of all answers of the step."""
        kind = self._config.loss_type
        n_tokens = sum(len(self._sequences[member].ids) for member in members)
        if kind == "dapo":
            return n_tokens, sum(map(n_trained, self._sequences))
        return n_tokens, len(self._sequences) * (self._config.max_tokens if kind == "dr_grpo" else 1)

    def __call__(self, members: Sequence[int]) -> Tensor:
        """The summed loss of some answers: a scalar in float32."""
        import torch

        logps, rows = self.policy.logps([self._sequences[member] for member in members], self._config.temperature)
        old = logps.detach() if self._old is None else torch.cat([self._old[member] for member in members])
        advantages = torch.from_numpy(self._advantages[list(members)]).to(logps.device)[rows]
        ratio = torch.exp(logps - old)
        high = self._config.epsilon if self._config.epsilon_high is None else self._config.epsilon_high
        clipped = ratio.clamp(1 - self._config.epsilon, 1 + high)
        losses = -torch.minimum(ratio * advantages, clipped * advantages)
        distance = torch.zeros_like(losses)
        if self._reference is not None:
            gap = torch.cat([self._reference[member] for member in members]) - logps
            distance = ratio * (torch.exp(gap) - gap - 1)
            losses = losses + self._config.beta * distance
        lengths = torch.bincount(rows, minlength=len(members))
        self._note(members, rows, clipped * advantages < ratio * advantages, distance)
        if self._config.loss_type == "grpo":
            losses = losses / lengths[rows]
        return losses.sum()

    def figures(self, members: Sequence[int]) -> dict[str, float]:
        """clip_fraction (of the tokens), and kl (nats a token) if there is a reference."""
        shares = self._ranks.gathered({member: self._figures[member] for member in members if member in self._figures})
        noted = {member: figures for share in shares for member, figures in share.items()}
        found = [(n_trained(self._sequences[member]), *noted[member]) for member in members]
        total = max(1, sum(n for n, _, _ in found))
        figures = {"clip_fraction": sum(clipped for _, clipped, _ in found) / total}
        return figures | ({"kl": sum(kl for _, _, kl in found) / total} if self._reference is not None else {})

    def _note(self, members: Sequence[int], rows: Tensor, clipped: Tensor, distance: Tensor) -> None:
        import torch

        sums = torch.zeros(2, len(members), device=rows.device)
        sums.index_add_(1, rows, torch.stack([clipped.float(), distance.detach()]))
        for member, of_clipped, of_distance in zip(members, *sums.tolist(), strict=True):
            self._figures[member] = (of_clipped, of_distance)
