"""The notebooks of the documentation run from the first cell to the last."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from small_caches import write_small_digits

nbformat = pytest.importorskip("nbformat", reason="notebooks run by nbclient; pip install 'tmkt[test]'")
nbclient = pytest.importorskip("nbclient", reason="notebooks run by nbclient; pip install 'tmkt[test]'")
ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_valid_and_holds_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []


def test_the_tour_runs(tmp_path, monkeypatch):
    write_small_digits(tmp_path)
    monkeypatch.delenv("TMKT_CACHES", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "tutorials" / "tour.ipynb", as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place)
    asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert "image/png" in shown
    assert shown.count("text/html") == 2
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    found = {line.split()[0]: int(line.split()[1].rstrip("%")) for line in printed.splitlines() if "% of" in line}
    assert found["saccade"] > found["repeat"]
    assert found["saccade"] > 30
