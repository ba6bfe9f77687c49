"""Things chosen by name: shipped, or code of the user's own that is imported only when it was asked for."""

import sys

import pytest

from cardiac_jax.core import registry
from cardiac_jax.errors import InputError

TABLE = {"one": 1, "two": 2}


@pytest.fixture(autouse=True)
def _nothing_allowed(monkeypatch):
    monkeypatch.setattr(registry, "_allowed", set())


def lookup(name: str):
    return registry.lookup("nets", "model.net", name, TABLE)


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """The name of a module that says so when it is imported."""
    (tmp_path / "own_net_of_a_test.py").write_text("THING = 3\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_net_of_a_test", raising=False)
    return "own_net_of_a_test"


def test_a_shipped_name():
    assert lookup("two") == 2


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"^model\.net: 'three' is not one of one, two, nor module:attribute, nor"):
        lookup("three")


def test_own_code_is_imported_only_if_asked_for(own):
    with pytest.raises(InputError, match=rf"^model\.net: '{own}:THING' .* add --use={own}:THING$"):
        lookup(f"{own}:THING")
    assert own not in sys.modules
    registry.allow([f"{own}:OTHER"])
    with pytest.raises(InputError, match="--use"):
        lookup(f"{own}:THING")
    assert own not in sys.modules
    registry.allow([f"{own}:THING", "two"])
    assert lookup(f"{own}:THING") == 3


@pytest.mark.parametrize("name", ["no_such_module:THING", "own_net_of_a_test:NOTHING"])
def test_what_cannot_be_imported_is_one_line(own, name):
    registry.allow([name])
    with pytest.raises(InputError, match=rf"^model\.net: '{name}' cannot be imported: ") as caught:
        lookup(name)
    assert "\n" not in str(caught.value)


def test_an_entry_point_of_an_installed_package(monkeypatch):
    class Point:
        name = "theirs"

        @staticmethod
        def load():
            return 4

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point] if group == "cardiac_jax.nets" else [])
    assert lookup("theirs") == 4
    with pytest.raises(InputError):
        registry.lookup("terms", "terms", "theirs", TABLE)
