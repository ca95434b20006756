"""The errata page: every entry recomputes, and would notice a change."""

from __future__ import annotations

import pytest

from lq_utils import errata
from lq_utils.errata_core import ERRATA, Numbers, number, show
from lq_utils.errata_poster_sizes import (
    resnet18_parameters,
    resnet20_parameters,
    vgg16_parameters,
)
from lq_utils.published import PublishedError

CHECKED = [
    entry for entry in ERRATA.values() if entry.check(Numbers()).comparisons
]


@pytest.mark.parametrize("entry", ERRATA.values(), ids=list(ERRATA))
def test_the_check_confirms_the_erratum(entry):
    finding = errata.find(entry)
    assert finding.verdict
    assert entry.document in errata.DOCUMENTS


# Nonsense input may divide by zero on its way to being noticed.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("entry", CHECKED, ids=lambda entry: entry.id)
def test_changed_input_is_noticed(entry):
    numbers = Numbers()
    finding = errata.find(entry, numbers)
    changes = [
        {item.key: item.right} for item in finding.comparisons if item.key
    ]
    for key, value in numbers.used.items():
        changes += [{key: value * factor} for factor in (0, 0.25, 0.5, 3)]
        changes += [{key: value + 25}]
    noticed = 0
    for change in changes:
        try:
            errata.find(entry, Numbers(change))
        except (errata.ErrataError, ArithmeticError, ValueError):
            noticed += 1
    assert noticed, f"{entry.id} holds whatever the sources print"


@pytest.mark.parametrize(
    ("entry", "item"),
    [
        pytest.param(entry, item, id=f"{entry.id}: {item.what}")
        for entry in CHECKED
        for item in entry.check(Numbers()).comparisons
        if item.key and item.misprint
    ],
)
def test_a_corrected_misprint_ends_the_erratum(entry, item):
    with pytest.raises(errata.ErrataError):
        errata.find(entry, Numbers({item.key: item.right}))


def test_the_page_is_what_the_checks_write():
    text = errata.PAGE.read_text(encoding="utf-8")
    assert text == errata.page(), "run python -m lq_utils.errata"
    assert errata.main(["--check"]) == 0


def test_an_outdated_page_is_noticed(tmp_path, monkeypatch, capsys):
    old = tmp_path / "errata.md"
    old.write_text(errata.PAGE.read_text(encoding="utf-8") + "\nby hand\n")
    monkeypatch.setattr(errata, "PAGE", old)
    assert errata.main(["--check"]) == 1
    assert "python -m lq_utils.errata" in capsys.readouterr().err
    assert errata.main([]) == 0
    assert errata.main(["--check"]) == 0


def test_ids_are_unique_and_fit_for_labels():
    with pytest.raises(ValueError, match="taken"):
        errata.lq_utils.errata_core.erratum(
            "thesis-memory", "quantnet_thesis", "", ""
        )(lambda numbers: None)
    assert all(":" not in id and " " not in id for id in ERRATA)


def test_a_look_up_must_be_exact():
    with pytest.raises(PublishedError):
        Numbers()("no such document", "table 4.8", "test accuracy")
    with pytest.raises(LookupError, match="no such quantity"):
        Numbers()("quantnet_thesis", "table 4.8", "no such quantity")
    with pytest.raises(LookupError, match="exactly these keys"):
        Numbers()(
            "quantnet_thesis", "table 4.8", "test accuracy", set_up="base"
        )


def test_numbers_are_shown_in_full():
    assert show(17468448) == "17,468,448"
    assert show(-1e-9) == "0"
    assert show(15.8707123) == "15.8707"
    printed = Numbers()(
        "quantnet_thesis", "table 4.7", "memory reduction", bits="fp,1,2,2"
    )
    assert number("", printed, 15.9, "", tolerance=0.1).agrees
    assert not number("", printed, 15.9, "", tolerance=0.01).agrees


def test_parameter_counts_are_those_of_the_real_networks():
    from torchvision.models import ResNet18_Weights, VGG16_Weights

    from lq_utils.models import build_model, count_parameters

    resnet18 = ResNet18_Weights.IMAGENET1K_V1.meta["num_params"]
    assert resnet18 == resnet18_parameters(1000)
    vgg16 = VGG16_Weights.IMAGENET1K_V1.meta["num_params"]
    assert vgg16 == vgg16_parameters(1000)
    resnet20 = count_parameters(build_model("resnet20", 10))
    assert resnet20 == resnet20_parameters(10)
