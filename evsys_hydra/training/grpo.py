"""`grpo`: reinforcement learning whose reward is a verifier, on the loop of supervised fine-tuning.

A step of the loop is one round: prompts are answered by the live model, the answers rewarded and compared within their
group, and the policy is updated with them. Checkpoints lie between rounds, so a resumed training needs no rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..benchmark.verification import limits_of
from ..inference.local import prompt_style
from ..registry import register_algorithm
from ..results import RunResult
from .context import TrainContext
from .grpo_config import GRPOConfig
from .grpo_loss import GRPOLoss
from .policy import Policy, frozen, in_passes
from .processes import in_processes
from .rl.advantages import group_advantages
from .rl.prompts import prompt_of, tasks_of
from .rl.recording import RolloutFile
from .rl.reference import Reference
from .rl.rewards import Rewards
from .rl.rounds import Rounds, sampler_for
from .rl.sampling import Rollout, answerable
from .saving import saver_for
from .sft import finish, load_trainable, longest_sequence, loop_for, training_hash
from .stepping import Stepper, StepResult

if TYPE_CHECKING:
    from torch import Tensor

    from ..benchmark.task import Task
    from .chat import Tokens
    from .loop import Loop
    from .rl.prompts import Prompt

UNSEEN_PASS = 64
"""Most answers in a forward pass without gradients."""


@register_algorithm("grpo", config=GRPOConfig)
def train(config: GRPOConfig, context: TrainContext) -> RunResult:
    """Train on rewards; goes on by itself where an earlier attempt in this directory was stopped.

    Returns:
        metrics: those of `sft`, and over the last tenth of the steps reward (mean of the sampled answers), reward_std
        (within groups), answer_tokens, cut_fraction (answers that max_tokens cut), equal_groups (share of groups whose
        rewards are all the same and so teach nothing), clip_fraction, and kl if beta is not 0.

    Raises:
        DataError, ConfigError, EvaluationError, TrainingDiverged, TrainingOutOfMemory
    """
    return in_processes(_train, config, context)


def _train(config: GRPOConfig, context: TrainContext) -> RunResult:
    """Train, in this process or in this rank."""
    mark = training_hash(config, context)
    saver = saver_for(config, context.directory, mark, context.ranks)
    resumable = saver.resumable()
    model, tokenizer = load_trainable(context, resumable)
    pad_id = tokenizer.pad_token_id or 0
    every = tasks_of(context.rows)
    prompts = [prompt_of(row, task) for row, task in zip(context.rows, every, strict=True)]
    longest = longest_sequence(model, tokenizer)
    kept = answerable(prompts, tokenizer, prompt_style(context.run.inference), longest)
    tasks = [every[place] for place in kept]
    rewards = Rewards(tasks, config.verifier_timeout, limits_of(config.sandbox, config.sandbox_limits))
    counted = {"n_examples": len(tasks), "n_dropped": len(every) - len(tasks)}
    context.record.event("training_data", n_rows=len(every), **counted)

    loss = GRPOLoss(Policy(model, pad_id), config, context.ranks)
    loop = loop_for(config, context, saver, model, tokenizer, loss, [0] * len(tasks))
    loop.stepper.micro_batch_size = config.micro_batch_size or config.batch_size * config.num_generations
    reference = Reference(context, model, pad_id, loop.autocast) if config.beta else None
    file = RolloutFile(context.directory, mark, config.record_rollouts) if context.ranks.is_first else None
    asked = [(every[place], prompts[place]) for place in kept]
    Improvement(config, loop, loss, asked, rewards, reference, file)
    if resumable is not None:
        loop.resume(resumable)
    loop.run()
    if file is not None:
        file.close()
    return finish(loop, counted)


class Improvement(Rounds):
    """One step: sample, reward, compare, update.

    Args:
        tasks: each row's task, and what the model is asked.
        reference: None if beta is 0.
        file: None: this rank does not write.
    """

    def __init__(
        self,
        config: GRPOConfig,
        loop: Loop,
        loss: GRPOLoss,
        tasks: Sequence[tuple[Task, Prompt]],
        rewards: Rewards,
        reference: Reference | None,
        file: RolloutFile | None,
    ) -> None:
        super().__init__(loop, sampler_for(config, loop))
        self._config = config
        self._loss = loss
        self._tasks = tasks
        self._rewards = rewards
        self._reference = reference
        self._file = file

    def step(self, members: Sequence[int], lr: float) -> StepResult:
        """One round on some prompts.

        Raises:
            DataError: a prompt that cannot be answered.
            EvaluationError: no answer could be verified.
            TrainingOutOfMemory: not even one answer fits.
        """
        step, group = self.number, self._config.num_generations
        rollouts = self.sampled([self._tasks[member][1] for member in members], group)
        asked = [self._tasks[members[rollout.place]][0] for rollout in rollouts]
        answers = [(task, rollout.text) for task, rollout in zip(asked, rollouts, strict=True)]
        outcomes = self.ranks.agreed(self._rewards(answers) if self.ranks.is_first else [])
        rewards = [outcome.reward for outcome in outcomes]
        advantages = group_advantages(rewards, group, scale=self._config.scale_rewards)
        if self._file is not None:
            self._file.write(step, asked, rollouts, outcomes, advantages.tolist())
        sequences = [rollout.tokens for rollout in rollouts]
        self._updates.lengths = [len(tokens.ids) for tokens in sequences]
        self._loss.take(sequences, advantages, self._old(sequences), self._of_reference(sequences))
        result = self._update(lr)
        return replace(result, figures={**_sampled(rollouts, rewards, group), **result.figures})

    def _update(self, lr: float) -> StepResult:
        """All updates of a round; the first one that is not finite is the last."""
        useful = self._loss.useful()
        if not useful:  # all groups have equal rewards: there is nothing to learn from them
            return StepResult(0.0, self._loss.sizes([])[1], 0, 0.0)
        made: list[StepResult] = []
        for _ in range(self._config.num_iterations):
            made.append(self._updates.step(useful, lr))
            if not made[-1].finite:
                break
        return StepResult(
            loss_sum=sum(result.loss_sum for result in made),
            weight=sum(result.weight for result in made),
            tokens=sum(result.tokens for result in made),
            grad_norm=made[-1].grad_norm,
            figures=made[-1].figures,
        )

    def _old(self, sequences: Sequence[Tokens]) -> list[Tensor] | None:
        """The tokens' log-probabilities before the first update; one update needs no others than its own."""
        if self._config.num_iterations == 1:
            return None
        with frozen(self._loss.policy.model, self._loop.autocast):
            return token_logps(self._loss.policy, sequences, self._config.temperature, self._updates)

    def _of_reference(self, sequences: Sequence[Tokens]) -> list[Tensor] | None:
        if self._reference is None:
            return None
        with self._reference.policy() as policy:
            return token_logps(policy, sequences, self._config.temperature, self._updates)


def token_logps(policy: Policy, sequences: Sequence[Tokens], temperature: float, stepper: Stepper) -> list[Tensor]:
    """Log-probabilities of each sequence's trained tokens; to be called without gradients.

    Raises:
        TrainingOutOfMemory: not even one sequence fits.
    """
    found: dict[int, Tensor] = {}

    def note(part: list[int]) -> None:
        logps, rows = policy.logps([sequences[place] for place in part], temperature)
        found.update((place, logps[rows == row]) for row, place in enumerate(part))

    places, lengths = range(len(sequences)), [len(tokens.ids) for tokens in sequences]
    in_passes(places, lengths, UNSEEN_PASS, stepper, note)
    return [found[place] for place in places]


def _sampled(rollouts: Sequence[Rollout], rewards: Sequence[float | None], group: int) -> dict[str, float]:
    """What there is to say of a round's samples."""
    import numpy as np

    known = np.array([np.nan if reward is None else reward for reward in rewards])
    groups = [each[~np.isnan(each)] for each in known.reshape(-1, group)]
    spread = [float(each.std(ddof=1)) for each in groups if len(each) > 1]
    return {
        "reward": float(np.nanmean(known)),
        "reward_std": sum(spread) / max(1, len(spread)),
        "equal_groups": sum(len(set(each.tolist())) < 2 for each in groups) / len(groups),
        "answer_tokens": sum(len(rollout.answer_ids) for rollout in rollouts) / len(rollouts),
        "cut_fraction": sum(rollout.finish_reason == "length" for rollout in rollouts) / len(rollouts),
        "errored_rewards": float(np.isnan(known).mean()),
    }
