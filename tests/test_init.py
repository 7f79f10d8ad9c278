"""What the package gives away by name stays the same thing, whatever was imported in between."""

import importlib

import sr_zoo


def test_public_names_do_not_change_by_use():
    first = {name: getattr(sr_zoo, name) for name in sr_zoo.__all__}
    for home in sr_zoo._HOMES.values():
        importlib.import_module(f"sr_zoo.{home}")
    assert all(getattr(sr_zoo, name) is value for name, value in first.items())
