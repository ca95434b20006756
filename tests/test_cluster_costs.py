"""The page on clusters: what cells took, and that it is up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lq_utils import cluster_costs as cc


def keep(folder: Path, name: str, seconds: list[float]) -> None:
    lines = [json.dumps({"seconds": s, "rows": []}) for s in seconds]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def test_costs_of_kept_cells(tmp_path: Path) -> None:
    keep(tmp_path, "04_one", [30.0, 90.0, 60.0])
    keep(tmp_path, "03_two", [3600.0] * 8)
    costs = cc.kept_costs(tmp_path).set_index("sweep")
    assert costs.loc["04_one"].tolist() == [3, 60, 90, 60, 0.05]
    assert costs.loc["03_two"].tolist() == [8, 3600, 3600, 1, 8]
    table = cc.grid(costs.reset_index(), 10.0).splitlines()
    assert "03_gpfq_sweeps" in table[2]
    assert [c.strip() for c in table[2].split("|")[2:-1]] == [
        # No more workers than cells help: a cell takes an hour.
        "4.0 h", "1.0 h", "1.0 h", "1.0 h", "80.0 h of one worker",
    ]  # fmt: skip
    assert "3 min" in cc.rates(costs.reset_index())


def test_nothing_kept(tmp_path: Path) -> None:
    costs = cc.kept_costs(tmp_path)
    assert "No cells" in cc.rates(costs) and "No cells" in cc.grid(costs, 1.0)


def test_ratio_of_products() -> None:
    """ResNet-50 has 4.09e9 products an image (torchvision's count), and
    ResNet-20 with a CIFAR stem 40.8e6 (He et al. 2016: 0.27 M weights)."""
    assert cc.imagenet_factor() == pytest.approx(4.09e9 / 40.8e6, rel=0.02)


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert cc.main(["--check"]) == 0
    assert cc.main(["--what"]) == 2
    assert "usage" in capsys.readouterr().err


def test_an_old_page_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = tmp_path / "page.md"
    text = cc.PAGE.read_text("utf-8")
    old.write_text(text.replace("That factor is", "The factor is"), "utf-8")
    monkeypatch.setattr(cc, "PAGE", old)
    assert cc.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert cc.main([]) == 0
    assert old.read_text("utf-8") == text
