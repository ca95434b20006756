"""Registries: names, suggestions, registration twice."""

from __future__ import annotations

import pytest

from lq_utils.registry import Registry, RegistryError, UnknownName


@pytest.fixture
def distances() -> Registry:
    registry: Registry = Registry("distance")
    registry.register("bhattacharyya")(len)
    registry.register("energy")(sum)
    return registry


def test_get_and_order(distances: Registry) -> None:
    assert distances.get("energy") is sum
    assert distances.names() == ("bhattacharyya", "energy")
    assert list(distances) == ["bhattacharyya", "energy"]
    assert len(distances) == 2 and "energy" in distances


def test_register_returns_what_it_decorates(distances: Registry) -> None:
    @distances.register("mine")
    def mine(x: int) -> int:
        return x + 1

    assert mine(1) == 2 and distances.get("mine") is mine


def test_unknown_name_suggests(distances: Registry) -> None:
    with pytest.raises(UnknownName) as caught:
        distances.get("batacharyya")
    assert str(caught.value) == (
        "unknown distance 'batacharyya'; did you mean 'bhattacharyya'? "
        "known: bhattacharyya, energy"
    )
    assert isinstance(caught.value, KeyError)


def test_suggestion_ignores_case(distances: Registry) -> None:
    with pytest.raises(UnknownName, match="did you mean 'energy'"):
        distances.get("ENERGY")


def test_no_suggestion_far_away(distances: Registry) -> None:
    with pytest.raises(UnknownName) as caught:
        distances.get("xyz")
    assert "did you mean" not in str(caught.value)


def test_twice_is_an_error_unless_replaced(distances: Registry) -> None:
    with pytest.raises(RegistryError, match="replace=True"):
        distances.register("energy")(max)
    assert distances.get("energy") is sum
    distances.register("energy", replace=True)(max)
    assert distances.get("energy") is max


@pytest.mark.parametrize("name", ["", " ", len])
def test_decorator_without_a_name(distances: Registry, name: object) -> None:
    with pytest.raises(RegistryError, match="needs a name"):
        distances.register(name)  # type: ignore[arg-type]
