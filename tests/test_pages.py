"""From an executed chapter to its page."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import page_samples
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from test_interactive import some_steps

from lq_utils import pages
from lq_utils.__main__ import main as command
from lq_utils.chapter_pages import make_page, parameter_table
from lq_utils.figures import NO_RUN
from lq_utils.interactive import interactive_html
from lq_utils.page_record import PageError, Record
from lq_utils.parameters import parse_cell
from lq_utils.paths import REFERENCE, ROOT
from lq_utils.profiles import chapters
from lq_utils.reference import reference_states, states_markdown
from lq_utils.rows import load_rows


def _page(folder: Path) -> NotebookNode:
    return make_page(folder / "executed.ipynb", Record.read(folder))


def test_page_leaves_the_shared_script_to_the_book(tmp_path: Path) -> None:
    body = interactive_html(some_steps(), "A caption.", "An alt.", "demo")
    body = body.replace(NO_RUN, "smoke profile")
    shared = "<!--lq-shared--><script>let a;</script><!--/lq-shared-->\n"
    shown = new_output("display_data", {"text/html": body + shared})
    executed = page_samples.notebook()
    executed.cells.append(page_samples.ran("show()", shown))
    page = _page(page_samples.write(tmp_path, executed))
    (cell,) = (c for c in page.cells if c.source == "show()")
    assert cell.outputs[0].data["text/html"] == body


def test_page_of_a_run(tmp_path: Path) -> None:
    page = _page(page_samples.write(tmp_path))
    nbformat.validate(page)
    sources = [cell.source for cell in page.cells]
    assert not any("# Parameters\n" in s for s in sources)
    assert not any("check_parameters" in s for s in sources)
    (cell,) = (c for c in page.cells if c.source == page_samples.PARAMETERS)
    assert "hide-input" in cell.metadata["tags"]
    assert set(page.metadata) == {"kernelspec", "language_info"}
    assert "/secret/path" not in nbformat.writes(page)
    assert not any("papermill" in c.metadata for c in page.cells)


def test_page_keeps_outputs_except_progress_bars(tmp_path: Path) -> None:
    page = _page(page_samples.write(tmp_path))
    outputs = [o.text for c in page.cells for o in c.get("outputs", [])]
    assert outputs == ["DemoWarning: x\n", "result 42\n"]


def test_page_names_profile_seed_and_data_below_its_title(
    tmp_path: Path,
) -> None:
    first = _page(page_samples.write(tmp_path)).cells[0].source
    lines = first.splitlines()
    assert lines[:2] == ["(ch-demo)=", "# 1. A demo"]
    assert (
        "**smoke** profile, seed **3**, on **CIFAR-100, book split, "
        "unofficial copy (fingerprint f00d)**" in first
    )
    assert "A question" in lines[-1]
    assert "warning" not in first


def test_synthetic_images_are_called_so(tmp_path: Path) -> None:
    page_samples.write(
        tmp_path, provenance={"dataset": "synthetic100", "rung": "synthetic"}
    )
    first = _page(tmp_path).cells[0].source
    assert ":class: warning" in first
    assert "nothing about photographs" in first


def test_page_ends_with_its_run(tmp_path: Path) -> None:
    last = _page(page_samples.write(tmp_path)).cells[-1].source
    assert last.startswith("## About this run")
    for text in (
        "`0123456789ab`",
        "2026-01-02 03:04 UTC",
        "12 s",
        "numpy 2.0",
    ):
        assert text in last
    for suffix in (".ipynb", ".py"):
        assert f"../../notebooks/01_demo{suffix}>`" in last


def test_parameter_table() -> None:
    parameters = parse_cell(page_samples.PARAMETERS)
    values = {"profile": "quick", "seed": 3, "bits": [3, 4]}
    page = parameter_table(values, parameters)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", page)
    assert len(rows) == 3
    assert "<strong><code>3</code></strong></td><td><code>0</code>" in rows[1]
    assert "0..1000" in rows[1] and "<strong>" not in rows[2]
    assert "bits of the &lt;grids&gt; (cost: linear)" in rows[2]
    with pytest.raises(PageError, match="no value for bits"):
        parameter_table({"profile": "quick", "seed": 3}, parameters)


def _failed(cells: NotebookNode) -> NotebookNode:
    error = new_output("error", ename="ZeroDivisionError", evalue="by zero")
    cells.cells.append(page_samples.ran("1 / 0", error))
    return cells


def _not_run(cells: NotebookNode) -> NotebookNode:
    cells.cells.append(new_code_cell("print(1)"))
    return cells


def _banner(cells: NotebookNode) -> NotebookNode:
    cells.cells.insert(
        0,
        new_markdown_cell(
            "An Exception", metadata={"tags": ["papermill-error-cell-tag"]}
        ),
    )
    return cells


def _no_run(cells: NotebookNode) -> NotebookNode:
    data = {"text/html": f"<figure>{NO_RUN}</figure>"}
    output = new_output("display_data", data=data)
    cells.cells.append(page_samples.ran("show()", output))
    return cells


def _no_title(cells: NotebookNode) -> NotebookNode:
    cells.cells[0].source = "no title"
    return cells


def _no_parameters(cells: NotebookNode) -> NotebookNode:
    cells.cells[2].metadata["tags"] = []
    return cells


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_failed, "failed: ZeroDivisionError: by zero"),
        (_not_run, "did not run"),
        (_banner, "failed: An Exception"),
        (_no_run, "before start_run"),
        (_no_title, "must begin with a markdown cell"),
        (_no_parameters, "no cell tagged 'parameters'"),
    ],
)
def test_spoiled_runs_make_no_page(
    spoil: object, message: str, tmp_path: Path
) -> None:
    assert callable(spoil)
    page_samples.write(tmp_path, spoil(page_samples.notebook()))
    with pytest.raises(PageError, match=message):
        _page(tmp_path)


def test_record_must_be_there_and_whole(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="does not hold a finished run"):
        Record.read(tmp_path)
    page_samples.write(tmp_path, seconds="long")
    with pytest.raises(PageError, match="does not hold a finished run"):
        Record.read(tmp_path)
    (tmp_path / "run.json").write_text("{}", "utf-8")
    with pytest.raises(PageError, match="does not hold a finished run"):
        Record.read(tmp_path)


def test_unchanged_pages_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CHAPTERS", tmp_path / "chapters")
    run = page_samples.write(tmp_path / "run")
    pages.write_page(run)
    page = tmp_path / "chapters" / "01_demo.ipynb"
    first = page.stat().st_ino, page.read_text("utf-8")
    pages.write_page(run)
    assert (page.stat().st_ino, page.read_text("utf-8")) == first
    page_samples.write(run, run_id="another")
    pages.write_page(run)
    assert "another" in page.read_text("utf-8")


def test_pages_of_other_chapters_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, html = tmp_path / "chapters", tmp_path / "html"
    monkeypatch.setattr(pages, "CHAPTERS", folder)
    monkeypatch.setattr(pages, "HTML", html)
    rendered = html / "book" / "chapters"
    rendered.mkdir(parents=True)
    folder.mkdir()
    for name in ("01_kept", "02_gone"):
        (folder / f"{name}.ipynb").touch()
        (rendered / f"{name}.html").touch()
    pages.remove_others({"01_kept"})
    assert [p.name for p in folder.iterdir()] == ["01_kept.ipynb"]
    assert [p.name for p in rendered.iterdir()] == ["01_kept.html"]


def test_reference_rows_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = reference_states().set_index("what")
    assert list(states.index[: len(chapters())]) == chapters()
    first = states.loc["01_class_distances"]
    assert first["rows"] == len(load_rows(REFERENCE / "01_class_distances"))
    pending = states[states["rows"] == 0]
    assert "resnet50_cifar100" in pending.index
    assert command(["reference"]) == 0
    text = capsys.readouterr().out
    assert f"{len(states) - len(pending)} committed" in text
    assert all(line in text for line in pending["command"])
    table = states_markdown()
    assert table.count("pending: `python -m lq_utils") == len(pending)


def test_status_page_lists_runs_and_versions(tmp_path: Path) -> None:
    one = Record.read(page_samples.write(tmp_path / "1"))
    two = Record.read(
        page_samples.write(
            tmp_path / "2", chapter="02_other", packages={"numpy": "1.9"}
        )
    )
    status = pages.status_page([one, two])
    assert "{doc}`/book/chapters/02_other`" in status
    assert "2026-01-02 03:04 UTC, run `0123456789ab` | 12 |" in status
    assert status.count("| processor | a chip |") == 2
    assert pages.status_page([one, one]).count("| processor |") == 1


def test_contents_name_every_chapter_and_no_other() -> None:
    names = pages.contents(ROOT / "_toc.yml")
    listed = [n for n in names if n.startswith("book/chapters/")]
    assert listed == [f"book/chapters/{name}" for name in chapters()]
    assert len(set(names)) == len(names)


def test_prose_pages_are_all_in_the_contents() -> None:
    names = set(pages.contents(ROOT / "_toc.yml"))
    found = (p.relative_to(ROOT) for p in (ROOT / "book").rglob("*.md"))
    there = {p.with_suffix("").as_posix() for p in found}
    assert there <= names
    generated = {"book/status", "genindex"}
    generated |= {n for n in names if "chapters" in n}
    assert names - generated <= there


def test_book_never_executes_anything_itself() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert config["execute"] == {"execute_notebooks": "off"}
