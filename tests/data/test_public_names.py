from __future__ import annotations

import subprocess
import sys

import tmkt_data


def test_every_public_name_is_there_whatever_was_imported_first():
    code = (
        "import importlib, pkgutil, tmkt_data\n"
        "for module in pkgutil.walk_packages(tmkt_data.__path__, 'tmkt_data.'):\n"
        "    module.name.endswith('__main__') or importlib.import_module(module.name)\n"
        "import types\n"
        "print([name for name in tmkt_data.__all__ if isinstance(getattr(tmkt_data, name), types.ModuleType)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_list_of_names_and_their_homes_agree():
    assert sorted(tmkt_data._HOMES) == sorted(tmkt_data.__all__)
    assert all(hasattr(tmkt_data, name) for name in tmkt_data.__all__)
    assert not hasattr(tmkt_data, "nothing")
