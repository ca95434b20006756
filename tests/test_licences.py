"""Licences of the lock: every pin has one, none needs a word it lacks."""

from __future__ import annotations

import re
from email import message_from_string
from pathlib import Path

import pytest

from lq_utils import licences
from lq_utils.licences import LicenceError, named_licence, note
from lq_utils.paths import ROOT

COPYLEFT = re.compile("GPL|General Public|MPL|Mozilla|EUPL|CDDL|EPL|OSL")


def rows() -> list[list[str]]:
    """The lines of the committed table, read without the command."""
    lines = licences.PAGE.read_text("utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [[c.strip() for c in line.split("|")[1:-1]] for line in table[1:]]


def test_every_pin_is_in_the_table() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pins = re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", lock)
    assert [(name, version) for name, version, *_ in rows()] == sorted(pins)


def test_no_licence_is_unknown_and_copyleft_has_a_word() -> None:
    for name, _, licence, word in rows():
        assert re.search("[A-Za-z]{2}", licence), name
        assert "UNKNOWN" not in licence.upper(), name
        if COPYLEFT.search(licence) or "Proprietary" in licence:
            assert word, name


def test_the_table_is_what_the_metadata_say() -> None:
    assert licences.main(["--check"]) == 0, f"run {licences.COMMAND}"


def test_no_word_is_for_a_package_that_is_not_locked() -> None:
    names = {name for name, *_ in rows()}
    assert set(licences.TOLD) | set(licences.NOTES) <= names


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: MIT\nLicense: other", "MIT"),
        (
            "Classifier: License :: OSI Approved :: BSD License\nLicense: x",
            "BSD License",
        ),
        ("Classifier: License :: OSI Approved\nLicense: BSD", "BSD"),
        ("License: UNKNOWN", ""),
        (f"License: {'a text ' * 20}", ""),
        ("Name: x", ""),
    ],
)
def test_licence_by_hand(metadata: str, expected: str) -> None:
    assert named_licence(message_from_string(metadata + "\n\n")) == expected


def test_a_new_licence_that_needs_a_word_is_an_error() -> None:
    with pytest.raises(LicenceError, match="say in NOTES"):
        note("some-package", "GPL-3.0-only")
    assert note("some-package", "LGPL-3.0-only")
    assert note("some-package", "MIT") == ""


def test_an_unknown_package_is_an_error_unless_known_before(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("no-such-package==1.0 \\\n    --hash=sha256:0\n", "utf-8")
    with pytest.raises(LicenceError, match="make env"):
        licences.licences(lock, {})
    with pytest.raises(LicenceError, match="make env"):
        licences.licences(lock, {("no-such-package", "0.9"): "MIT"})
    (line,) = licences.licences(lock, {("no-such-package", "1.0"): "MIT"})
    assert line == ("no-such-package", "1.0", "MIT", "")
