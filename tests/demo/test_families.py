"""The problems are right, repeatable, and split by word."""

import random
import subprocess
import sys
from itertools import islice

import pytest

from evsys_hydra.demo.families import FAMILIES, STYLES, Problem, draw_problem, draw_problems, draw_word, is_held_out


def test_the_same_seed_gives_the_same_problems_and_another_seed_gives_others() -> None:
    first, again, other = (list(islice(draw_problems(seed, FAMILIES, held_out=False), 50)) for seed in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_the_problems_of_a_seed_are_frozen() -> None:
    problems = islice(draw_problems("frozen", FAMILIES, held_out=True), 5)
    assert [(problem.prompt, problem.answer) for problem in problems] == [
        ("Say mukox.", "mukox"),
        ("Reverse ojosa.", "asojo"),
        ("Sort the letters of dage.", "adeg"),
        ("Write zoveful in capitals.", "ZOVEFUL"),
        ("Meet xolirik.", "CALENDAR_ADD(xolirik)"),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_right(family: str) -> None:
    problem = draw_problem(random.Random(1), family, held_out=False)  # type: ignore[arg-type]
    word = problem.word
    assert word in problem.prompt
    if family == "tool":
        assert problem.answer.endswith(f"({word})")
    else:
        right = {"say": word, "reverse": word[::-1], "sort": "".join(sorted(word)), "upper": word.upper()}
        assert problem.answer == right[family]


def test_each_style_wraps_the_same_content() -> None:
    problem = draw_problem(random.Random(2), "upper", held_out=False)
    answer = problem.answer
    assert [problem.answer_in(style) for style in STYLES] == [
        answer,
        f"It is {answer}.",
        f"<a>{answer}</a>",
        f"Answer: {answer}",
    ]


def test_about_one_word_in_eight_is_held_out() -> None:
    rng = random.Random(3)
    words = {draw_word(rng, held_out=rng.random() < 0.5) for _ in range(4000)}
    assert all(3 <= len(word) <= 10 and word.islower() for word in words)
    every_word = [a + b + c + d for a in "bdkmz" for b in "aeiou" for c in "bdkmz" for d in "aeiou"]
    assert 0.10 < sum(map(is_held_out, every_word)) / len(every_word) < 0.15


def test_the_length_bucket_follows_the_word() -> None:
    buckets = {
        len(word): Problem("say", word, "", "").length for word in ("abe", "dobal", "dobali", "dobalinu", "d" * 10)
    }
    assert buckets == {3: "short", 5: "short", 6: "medium", 8: "medium", 10: "long"}


def test_nothing_here_imports_torch() -> None:
    names = "benchmark, dataset, families, arithmetic, tool_selection"
    code = f"import sys; from evsys_hydra.demo import {names}; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
