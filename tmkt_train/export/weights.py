"""Export a finished run as a folder: weights as safetensors, and a model card."""

from __future__ import annotations

from pathlib import Path

import torch

from tmkt_data.export.new_folder import make_new_folder
from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError
from tmkt_train.export.card import RESULTS, model_card
from tmkt_train.training.export_folder import CARD
from tmkt_train.training.exported import ExportedNetwork, exported_files, require_safetensors
from tmkt_train.training.result import load_selected, read_finished
from tmkt_train.training.trained import facts_of, frame_facts


def export_weights(run: str | Path, out: str | Path) -> list[Path]:
    """Export the selected weights of a finished run to a new folder.

    It holds model.safetensors, recipe.toml, config.json and a model card, README.md, which is written last. The same
    run gives the same bytes. `tmkt_train.load_run` loads the folder: the weights are equal bit for bit.

    Args:
        run: Folder of the run.
        out: Folder to write; it must not exist, or be empty.

    Returns:
        The files.

    Raises:
        RunError: The run is not finished or damaged, the folder is not empty, or cannot be written.
        MissingPackageError: safetensors is not installed.
    """
    require_safetensors()
    finished, folder = read_finished(Path(run)), Path(out)
    names, spec, facts = facts_of(finished)
    model = load_selected(finished, frame_facts(spec, len(names)), torch.device("cpu"))
    num_threads, digest = finished.environment["num_threads"], finished.environment.get("network_digest")
    network = ExportedNetwork(finished.recipe, model.state_dict(), names, spec, facts, num_threads, digest)
    result = {name: finished.result.get(name) for name in RESULTS}
    files = exported_files(network, result)
    files[CARD] = model_card(network, finished.result, finished.environment).encode()
    make_new_folder(folder, RunError)
    for name, data in files.items():
        write_bytes(folder / name, data, error=RunError)
    return [folder / name for name in files]
