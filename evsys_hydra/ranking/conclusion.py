"""The conclusion: one text, derived from the verdict alone, that claims what the verdict allows and no more.

The first paragraph is the claim about the groups; then what could have been detected, the comparisons asked for, what
was left out, and last the sentences that EvSys tools read ("Best arm: ...", "<completed>/<n> arms completed.").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from .early_stopping import ALPHA_STOP
from .phrases import LISTED, count, interval, names, number, probability

Row = Mapping[str, object]
COMPLETED = ("completed", "ok")
UNFINISHED = ("pending", "running")


def write_conclusion(
    verdict: Row | None,
    arms: Sequence[Row],
    metric_name: str | None = None,
    hypothesis_text: str | None = None,
) -> str:
    """The conclusion of an experiment as paragraphs of plain text (readable as Markdown).

    Args:
        verdict: what `rank` returned, or None if the experiment has no success metric.
        arms: one mapping an arm: name, group, status ("completed" or "ok" for success, "pending" or "running" for what
            has not ended; anything else counts as failed), score (the success metric, or None) and for a failed arm
            error and cause (text or None), for one that was stopped early lost_to (a group).
        metric_name: as the sentences should call it; the verdict's metric by default.
        hypothesis_text: the experiment's hypothesis in the user's words, quoted.

    Returns:
        Paragraphs separated by blank lines, always with the EvSys sentences.
    """
    metric = metric_name or (str(verdict["metric"]) if verdict else None)
    paragraphs: list[str] = []
    if verdict is not None:
        paragraphs = [
            _claim(verdict, metric or "the metric"),
            _detectable(verdict),
            _scope(verdict),
            _baseline(verdict),
            _hypothesis(verdict, hypothesis_text),
            _references(verdict),
            _stopped(verdict, arms),
            _unranked(verdict, arms),
            _missing(verdict),
        ]
    elif metric_name is None:
        paragraphs = ["No success metric was set, so the arms were not ranked."]
        if hypothesis_text:
            paragraphs.append(
                f"The hypothesis ({_quoted(hypothesis_text)}) was not tested: there is no success metric."
            )
    paragraphs.append(_evsys(verdict, arms, metric))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def highest_arm(verdict: Row | None, arms: Sequence[Row]) -> Row | None:
    """The completed arm with the highest score (lowest to minimize; ties by name), or None.

    Arms that the verdict set aside (incomplete) only count if no other arm has a score.
    """
    aside = {str(entry["arm"]) for entry in _rows(verdict, "unranked")} if verdict else set()
    sign = -1.0 if verdict and verdict["direction"] == "minimize" else 1.0
    scored = [arm for arm in arms if arm["status"] in COMPLETED and _is_finite(arm.get("score"))]
    pool = [arm for arm in scored if arm["name"] not in aside] or scored
    return min(pool, key=lambda arm: (-sign * cast(float, arm["score"]), str(arm["name"])), default=None)


def _claim(verdict: Row, metric: str) -> str:
    kind, ranking = verdict["verdict"], cast("list[str]", verdict["ranking"])
    if not ranking:
        return f"Nothing could be ranked on {metric}: {verdict['reason']}."
    if kind == "no_inference":
        order = names([f"{group} {number(_estimate(verdict, group))}" for group in ranking])
        return f"No inference is possible: {verdict['reason']}. In order of {metric} only: {order}."
    top = ranking[0]
    if kind == "single_arm":
        return f"Only one group was ranked: {top}, at {metric} {_score(verdict, top)}; it has no rival."
    corrected = cast(float, verdict["best_score_corrected"])
    scored = f"{metric} {_score(verdict, top)}, or {number(corrected)} corrected for being picked as the highest"
    if kind == "winner" and len(ranking) == 1:
        stopped = {str(entry["group"]) for entry in _rows(verdict, "unranked") if entry["reason"] == "stopped"}
        others = "the other was stopped" if len(stopped) == 1 else f"the other {len(stopped)} were stopped"
        return (
            f"{top} is the best of {count(1 + len(stopped), 'group')}: {metric} {_score(verdict, top)}; {others} early."
        )
    if kind == "winner":
        return f"{top} is the best of {count(len(ranking), 'group')}: {scored}. {_lead(verdict, ranking)}"
    return f"{top} scored highest ({scored}), but {_rivals(verdict, ranking)}"


def _lead(verdict: Row, ranking: list[str]) -> str:
    """The winner's gap to the runner-up, and to the group it was hardest to separate from, if that is another."""
    differences = _rows_by_group(verdict, "differences")
    runner_up = ranking[1]
    hardest = max(ranking[1:], key=lambda group: cast(float, differences[group]["p_eff"]))
    text = f"It is ahead of the next group, {runner_up}, by {_gap(verdict, differences[runner_up])}, {_basis(verdict)}."
    if hardest != runner_up:
        text += f" The group hardest to separate from it was {hardest}: {_gap(verdict, differences[hardest])}."
    return text


def _rivals(verdict: Row, ranking: list[str]) -> str:
    best_set = cast("list[str]", verdict["best_set"])
    rivals = [group for group in ranking[1:] if group in best_set]
    excluded = [group for group in ranking if group not in best_set]
    text = f"{names(rivals)} can't be told apart from it {_basis(verdict)}."
    first = rivals[0]
    text += f" The gap to {first} is {_gap(verdict, _rows_by_group(verdict, 'differences')[first])}."
    if excluded:
        text += f" Excluded from the top: {names(excluded)}."
    if verdict["equivalent"]:
        margin = number(cast(float, verdict["min_effect"]))
        text += f" All differences among these {len(best_set)} lie within {margin}, the margin set beforehand:"
        text += " they are equivalent for this purpose."
    return text


def _detectable(verdict: Row) -> str:
    """Which gap would have been found, and what it would take to find the observed one."""
    mde, tasks, seeds = verdict["mde"], verdict["tasks_needed"], verdict["seeds_needed"]
    if mde is None or verdict["verdict"] == "winner":
        return ""
    chance = f"{100 * cast(float, verdict['power']):.0f}%"
    gap = number(cast(float, mde))
    text = f"This experiment could detect, with {chance} power, a true gap of {gap} between the top two groups."
    if tasks is not None:
        text += f" If the observed gap is real, about {_rounded(cast(int, tasks))} tasks would show it."
    elif seeds is not None:
        more = "More tasks alone cannot settle it: " if verdict["kind"] == "per_task" else ""
        needed = f"if the observed gap is real, about {_rounded(cast(int, seeds))} seeds per group would show it."
        text += f" {more}{needed if more else needed[0].upper() + needed[1:]}"
    return text


def _scope(verdict: Row) -> str:
    seeds = [cast(int, row["n_seeds"]) for row in _rows_by_group(verdict, "arms").values()]
    notes = [f"{note[0].upper()}{note[1:]}." for note in cast("list[str]", verdict["notes"])]
    if verdict["scope"] == "checkpoint":
        what = "this is about these checkpoints" if len(seeds) > 1 else "this is about this checkpoint"
        return " ".join([f"One seed per group: {what}, on tasks like these; retraining could change it.", *notes])
    if verdict["scope"] == "recipe":
        spread = count(seeds[0], "seed") if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)} seeds"
        draws = "the spread between seeds"
        if verdict["kind"] == "per_task":
            draws = "the choice of tasks and the spread between seeds"
        return " ".join([f"With {spread} per group this is about the recipes: the intervals cover {draws}.", *notes])
    return " ".join(notes)


def _baseline(verdict: Row) -> str:
    baseline, rows = verdict["baseline"], _rows_by_group(verdict, "vs_baseline")
    if baseline is None:
        return ""
    if not rows:
        return f"No group was compared with the baseline {baseline}."
    if all(row["p_adj"] is None for row in rows.values()):
        return f"Against the baseline {baseline} nothing can be inferred."
    sentences = [_against(verdict, group, row) for group, row in list(rows.items())[:LISTED]]
    rest = f"; {len(rows) - LISTED:,} more groups are in the table" if len(rows) > LISTED else ""
    family = f"p adjusted for {count(len(rows), 'comparison')}"
    return f"Against the baseline {baseline} ({family}): {'; '.join(sentences)}{rest}."


def _against(verdict: Row, group: str, row: Row) -> str:
    diff, p = cast(float, row["diff"]), cast(float, row["p_adj"])
    ends = interval(cast("list[float]", row["ci"]), cast(float, verdict["alpha"]))
    numbers = f"{_signed(diff)} ({ends}; {probability(p)})"
    if p > cast(float, verdict["alpha"]):
        return f"{group} can't be told apart from it, {numbers}"
    ahead = diff < 0 if verdict["direction"] == "minimize" else diff > 0
    return f"{group} is {'better' if ahead else 'worse'}, {numbers}"


def _hypothesis(verdict: Row, text: str | None) -> str:
    row = cast(Row, verdict["hypothesis"])
    call = row["call"]
    if not text and row["better"] is None:
        return ""
    subject = (
        f"The hypothesis ({_quoted(text)})" if text else f"The hypothesis that {row['better']} beats {row['than']}"
    )
    if call == "not_tested":
        return f"{subject} was not tested: {row['reason']}."
    ends = interval(cast("list[float]", row["ci"]), cast(float, verdict["alpha"]))
    numbers = f"{_signed(cast(float, row['diff']))} ({ends}; {probability(cast(float, row['p']))})"
    pair = f"{row['better']} minus {row['than']} is {numbers}"
    call_text = {"supported": "is supported", "contradicted": "is contradicted", "not_resolved": "is not resolved"}
    return f"{subject} {call_text[str(call)]}: {pair}."


def _references(verdict: Row) -> str:
    rows = _rows_by_group(verdict, "references")
    if not rows:
        return ""
    shown = [f"{group} {_row_score(row, cast(float, verdict['alpha']))}" for group, row in rows.items()]
    return f"For reference, not ranked: {names(shown)}."


def _stopped(verdict: Row, arms: Sequence[Row]) -> str:
    """Which groups were stopped early, after how much, by whom, and what that saved."""
    entries = [entry for entry in _rows(verdict, "unranked") if entry["reason"] == "stopped"]
    if not entries:
        return ""
    total = cast(int, verdict["n_tasks"])
    by_name = {str(arm["name"]): arm for arm in arms}
    groups: dict[str, list[Row]] = {}
    for entry in entries:
        groups.setdefault(str(entry["group"]), []).append(entry)
    shown, orphans = [], []
    for group, rows in groups.items():
        lost = next((lost for row in rows if (lost := by_name.get(str(row["arm"]), {}).get("lost_to"))), None)
        after = names(sorted({f"{row['tasks_scored']:,}" for row in rows}, key=lambda text: int(text.replace(",", ""))))
        shown.append(f"{group} after {after} (behind {lost})")
        if lost not in {*cast("list[str]", verdict["ranking"]), *groups}:
            orphans.append((group, lost))
    saved = sum(total - cast(int, entry["tasks_scored"]) for entry in entries)
    planned = total * sum(arm["status"] in COMPLETED for arm in arms)
    text = (
        f"Stopped early, because they can no longer be the best ({100 * ALPHA_STOP:.0f}% error): {names(shown)} of "
        f"{total:,} tasks. That saved {saved:,} of {planned:,} answers to score."
    )
    for group, lost in orphans:
        text += f" But {lost} is not ranked itself: score {group} in full with evsys-hydra eval, then conclude."
    return text


def _unranked(verdict: Row, arms: Sequence[Row]) -> str:
    entries = [entry for entry in _rows(verdict, "unranked") if entry["reason"] != "stopped"]
    if not entries:
        return ""
    by_name = {str(arm["name"]): arm for arm in arms}
    shown = [f"{entry['arm']} ({_why(entry, by_name.get(str(entry['arm'])), verdict)})" for entry in entries]
    return f"Not ranked: {names(shown)}."


def _why(entry: Row, arm: Row | None, verdict: Row) -> str:
    if entry["reason"] == "incomplete":
        return f"incomplete, scored on {entry['tasks_scored']} of {verdict['n_tasks']} tasks"
    if arm and arm["status"] in UNFINISHED:
        return "not finished"
    what = "no score" if entry["reason"] == "no_score" else "failed"
    details = [" ".join(str(arm[field]).split()) for field in ("cause", "error") if arm and arm.get(field)]
    return ": ".join([what, *(detail if len(detail) <= 120 else detail[:117] + "..." for detail in details)])


def _missing(verdict: Row) -> str:
    lost = {group: n for group, n in cast("dict[str, int]", verdict["missing"]).items() if n}
    if not lost:
        return ""
    counts = names([f"{group} {n:,}" for group, n in lost.items()])
    shared = f"{verdict['n_common_tasks']:,} of {verdict['n_tasks']:,} tasks have a score from every ranked run"
    text = f"Missing scores: {counts}; {shared}."
    if verdict["verdict"] == "no_inference":
        return text
    return text + " What is claimed holds on those tasks and also with every missing score counted as the worst reward."


def _evsys(verdict: Row | None, arms: Sequence[Row], metric: str | None) -> str:
    """The sentences EvSys tools read. "Best arm" is the run with the highest score; the claim is made above."""
    if not arms:
        return ""
    done = [arm for arm in arms if arm["status"] in COMPLETED]
    open_arms = [str(arm["name"]) for arm in arms if arm["status"] in UNFINISHED]
    failed = [str(arm["name"]) for arm in arms if arm["status"] not in (*COMPLETED, *UNFINISHED)]
    if not done and not open_arms:
        return f"All {len(arms)} arms failed."
    sentences = []
    if open_arms:
        sentences.append(f"Not finished: {names(open_arms)}; this is what the others say so far.")
    top = highest_arm(verdict, arms) if metric else None
    if top is not None:
        sentences.append(f"Best arm: {top['name']} at {metric}={cast(float, top['score']):.4f}.")
    sentences.append(f"{len(done)}/{len(arms)} arms completed.")
    if failed:
        sentences.append(f"Failed: {', '.join(failed)}.")
    if top is not None and (verdict is None or verdict["verdict"] != "winner"):
        sentences.append("(That line names the single run with the highest score; it is not a claim.)")
    return " ".join(sentences)


def _basis(verdict: Row) -> str:
    if verdict["kind"] == "scalar":
        return "from its replicate runs"
    clusters = f" in {cast(int, verdict['n_units']):,} clusters" if verdict["clustered"] else ""
    return f"on {cast(int, verdict['n_common_tasks']):,} tasks{clusters}, paired by task"


def _gap(verdict: Row, row: Row) -> str:
    """'0.041 (95% CI -0.2 to 0.28; p = 0.687)': how far the top is ahead, whatever the direction."""
    sign = -1.0 if verdict["direction"] == "minimize" else 1.0
    low, high = (-sign * end for end in cast("list[float]", row["ci"]))
    ends = interval(sorted((low, high)), cast(float, verdict["alpha"]))
    return f"{number(abs(cast(float, row['diff'])))} ({ends}; {probability(cast(float, row['p_eff']))})"


def _score(verdict: Row, group: str) -> str:
    return _row_score(_rows_by_group(verdict, "arms")[group], cast(float, verdict["alpha"]))


def _row_score(row: Row, alpha: float) -> str:
    score = number(cast(float, row["estimate"]))
    return score if row["ci"] is None else f"{score} ({interval(cast('list[float]', row['ci']), alpha)})"


def _estimate(verdict: Row, group: str) -> float:
    return cast(float, _rows_by_group(verdict, "arms")[group]["estimate"])


def _rounded(n: int) -> str:
    """Two significant digits: a planning figure is no better."""
    step = 10 ** max(len(str(n)) - 2, 0)
    return f"{-(-n // step) * step:,}"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def _quoted(text: str) -> str:
    return f'"{" ".join(text.split())}"'


def _rows(verdict: Row, field: str) -> list[Row]:
    return cast("list[Row]", verdict[field])


def _rows_by_group(verdict: Row, field: str) -> dict[str, Row]:
    return cast("dict[str, Row]", verdict[field])


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
