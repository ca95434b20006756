"""Exercises: answers that check themselves, notebooks without solutions."""

from __future__ import annotations

import jupytext
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode

from lq_utils.exercises import (
    CHECK,
    ExerciseError,
    check_answer,
    exercise_problems,
    exercises,
    student_notebook,
)
from lq_utils.gates import SOLUTION
from lq_utils.paths import ROOT
from lq_utils.profiles import chapters, source_path

CHAPTER = '''# %% [markdown]
# # Sums
#
# ## Exercises
#
# ```{exercise}
# :label: ex-sum
#
# (5 minutes) Write `total`, and put its value for one and two into `three`.
# ```
#
# ```{hint}
# :class: dropdown
#
# There is a built-in.
# ```

# %% [markdown]
# ```{solution-start} ex-sum
# :class: dropdown
# ```
#
# The built-in is called *sum*.

# %% tags=["solution"]
import math


def total(values):
    """The sum of some values."""
    helper = list(values)
    return sum(helper)


secret = 1 + 1
three = total([1, secret])

# %% tags=["check"]
check_answer(
    {
        "one and two are three": lambda: three == 3,
        "a sum is a sum": lambda: total([2, 2]) == math.fsum([2, 2]),
    }
)

# %% [markdown]
# Some more of the solution.

# %% [markdown]
# ```{solution-end}
# ```
#
# ## Make it yours
#
# Go on.

# %%
mine = 5
'''


def read(text: str = CHAPTER) -> NotebookNode:
    return jupytext.reads(text, fmt="py:percent")


def sources(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


def answered(student: NotebookNode, answer: str) -> None:
    """Run a student's notebook, with an answer put before the checks."""
    shell = InteractiveShell()
    shell.user_ns["check_answer"] = check_answer
    for cell in student.cells:
        if cell.cell_type == "code":
            text = cell.source
            if CHECK in cell.metadata.get("tags", []):
                text = f"{answer}\n{text}"
            shell.run_cell(text, silent=True).raise_error()


def test_an_exercise_is_read_in_full() -> None:
    (found,) = exercises(read())
    assert found.label == "ex-sum"
    assert found.text.startswith("(5 minutes) Write")
    assert found.hints == ["There is a built-in."]
    assert [len(found.solution), len(found.checks)] == [1, 1]


def test_the_student_gets_all_but_the_solution() -> None:
    text = sources(student_notebook(read(), "00_sums"))
    for kept in ("# Sums", "### Exercise ex-sum", "Make it yours", "mine = 5"):
        assert kept in text
    assert "<details><summary>Hint</summary>" in text
    for gone in ("built-in is called", "more of the solution", "helper"):
        assert gone not in text
    assert "secret" not in text
    assert "{solution" not in text
    assert "three = None  # your answer" in text
    assert '"""The sum of some values."""' in text


def test_only_a_right_answer_passes() -> None:
    student = student_notebook(read(), "00_sums")
    answered(student, "three = 3; total = sum")
    with pytest.raises(ExerciseError, match="one and two are three"):
        answered(student, "")
    with pytest.raises(ExerciseError, match=r"a sum is a sum \(TypeError"):
        answered(student, "three = 3; total = 5")
    with pytest.raises(ExerciseError, match="a sum is a sum"):
        answered(student, "three = 3; total = len")


def test_a_notebook_shows_the_advice_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell = InteractiveShell()
    shell.user_ns["check_answer"] = check_answer
    shell.run_cell("check_answer({'look again': lambda: False})")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == "Not yet: look again"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("(5 minutes) ", "", "has no time"),
        ("```{hint}", "```{note}", "has no hint"),
        ('tags=["check"]', 'tags=["solution"]', "has no check"),
        ('# %% tags=["solution"]', "# %%", "is tagged 'solution' or"),
        ("mine = 5", "mine = secret", "'secret' comes from a solution only"),
        ("{solution-start} ex-sum", "{solution-start} ex-s", "no solution"),
    ],
)
def test_what_is_missing_is_said(old: str, new: str, says: str) -> None:
    assert exercise_problems("00_sums", read()) == []
    assert CHAPTER.count(old) == 1
    found = exercise_problems("00_sums", read(CHAPTER.replace(old, new)))
    assert any(says in line for line in found), found


@pytest.mark.parametrize("chapter", chapters())
def test_chapters_have_exercises(chapter: str) -> None:
    notebook = jupytext.read(source_path(chapter))
    found = exercises(notebook)
    assert 3 <= len(found) <= 6
    student = student_notebook(notebook, chapter)
    tags = [cell.metadata.get("tags", []) for cell in student.cells]
    assert sum(CHECK in tag for tag in tags) >= len(found)
    # Something is left to fill in before each check.
    assert sum(SOLUTION in tag for tag in tags) >= len(found)
    folder = ROOT / "notebooks" / "exercises"
    assert (folder / f"{chapter}_exercises.ipynb").is_file()
