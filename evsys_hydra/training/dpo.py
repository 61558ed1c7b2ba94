"""`dpo`: direct preference optimization, on the loop of supervised fine-tuning.

The reference is the policy that training starts from. What it says of the pairs is computed once, before the first
step, so that no second model is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..registry import register_algorithm
from ..results import RunResult
from .context import TrainContext
from .distributed import ALONE, Ranks
from .dpo_config import DPOConfig
from .pairs import Pair, encode_pairs
from .policy import Policy, frozen, in_passes
from .processes import in_processes
from .saving import saver_for
from .seeding import undisturbed
from .sft import finish, load_trainable, longest_sequence, loop_for, training_hash
from .stepping import Stepper

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_PASS = 32
"""Most pairs in a forward pass of the reference."""


@register_algorithm("dpo", config=DPOConfig)
def train(config: DPOConfig, context: TrainContext) -> RunResult:
    """Train on preferences; goes on by itself where an earlier attempt in this directory was stopped.

    Returns:
        metrics: those of `sft`, and preference_accuracy (share of pairs whose chosen answer has gained more than the
        rejected one), reward_margin (beta times how much more it has gained, in nats), both over the last tenth.

    Raises:
        DataError, ConfigError, TrainingDiverged, TrainingOutOfMemory
    """
    return in_processes(_train, config, context)


def _train(config: DPOConfig, context: TrainContext) -> RunResult:
    """Train, in this process or in this rank."""
    saver = saver_for(config, context.directory, training_hash(config, context), context.ranks)
    resumable = saver.resumable()
    model, tokenizer = load_trainable(context, resumable)
    pad_id = tokenizer.pad_token_id or 0
    limit = config.max_length or longest_sequence(model, tokenizer)
    encoded = encode_pairs(context.rows, tokenizer, config.render, limit)
    counted = {"n_examples": len(encoded.pairs), "n_dropped": encoded.n_dropped}
    context.record.event("training_data", n_rows=encoded.n_rows, **counted)

    loss = DPOLoss(Policy(model, pad_id), encoded.pairs, config, context.ranks)
    lengths = [pair.n_tokens for pair in encoded.pairs]
    loop = loop_for(config, context, saver, model, tokenizer, loss, lengths)
    used = {member for step in range(loop.total) for member in loop.batches.at(step)}
    start = model
    if resumable is not None:
        with undisturbed():
            start, _ = load_trainable(context, None)
    assert isinstance(loop.stepper, Stepper)
    loss.compare_with(Policy(start, pad_id), used, loop.stepper)
    del start
    if resumable is not None:
        loop.resume(resumable)
    loop.run()
    return finish(loop, counted)


class DPOLoss:
    """-log sigmoid(beta * margin), summed over pairs; margin = how much more the chosen answer's log-probability has
    grown since the reference than the rejected one's (Rafailov et al. 2023, Direct Preference Optimization, eq. 7)."""

    def __init__(self, policy: Policy, pairs: Sequence[Pair], config: DPOConfig, ranks: Ranks = ALONE) -> None:
        self._policy = policy
        self._ranks = ranks
        self._pairs = pairs
        self._beta = config.beta
        self._reference: dict[int, float] = {}
        self._margins: dict[int, float] = {}

    def compare_with(self, reference: Policy, members: Iterable[int], stepper: Stepper) -> None:
        """Compute what the reference says of some pairs; the order of `members` does not matter.

        Raises:
            TrainingOutOfMemory: not even one pair fits.
        """

        def note(part: list[int]) -> None:
            self._reference.update(zip(part, self._log_ratio(reference, part).tolist(), strict=True))

        lengths = [pair.n_tokens for pair in self._pairs]
        with frozen(reference.model, stepper.autocast):
            in_passes(sorted(members), lengths, REFERENCE_PASS, stepper, note)

    def sizes(self, members: Sequence[int]) -> tuple[int, int]:
        """Tokens, prompts included, and pairs."""
        return sum(self._pairs[member].n_tokens for member in members), len(members)

    def __call__(self, members: Sequence[int]) -> Tensor:
        """The summed loss of some pairs: a scalar in float32."""
        import torch
        import torch.nn.functional as F

        ratio = self._log_ratio(self._policy, members)
        reference = torch.tensor([self._reference[member] for member in members], device=ratio.device)
        margins = self._beta * (ratio - reference)
        self._margins.update(zip(members, margins.detach().tolist(), strict=True))
        return -F.logsigmoid(margins).sum()

    def figures(self, members: Sequence[int]) -> dict[str, float]:
        """preference_accuracy and reward_margin of a step's pairs, before the step."""
        own = {member: self._margins.pop(member) for member in members if member in self._margins}
        shares = {member: margin for share in self._ranks.gathered(own) for member, margin in share.items()}
        margins = [shares[member] for member in members]
        return {
            "preference_accuracy": sum(margin > 0 for margin in margins) / len(margins),
            "reward_margin": sum(margins) / len(margins),
        }

    def _log_ratio(self, policy: Policy, members: Sequence[int]) -> Tensor:
        """log p(chosen) - log p(rejected) of each pair."""
        pairs = [self._pairs[member] for member in members]
        logps = policy.sequence_logps([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
        return logps[: len(pairs)] - logps[len(pairs) :]
