"""A trained network as a folder of plain files: weights as safetensors, the recipe, and what else its use needs.

The only module that imports safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from tmkt_data import PrepareSpec
from tmkt_data.errors import SpecError
from tmkt_data.files import read_bytes
from tmkt_train.errors import MissingPackageError, RunError
from tmkt_train.recipe.load import load_recipe, parse_toml, read_tables, recipe_digest
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.export_folder import CONFIG, RECIPE, WEIGHTS

_FORMAT = 1
_KINDS = {
    "class_names": list,
    "cache_spec": dict,
    "cache_facts": dict,
    "weights_sha256": str,
    "recipe_digest": str,
    "num_threads": int,
}
_DAMAGED = "the folder is damaged, export the run again"


class ExportedNetwork(NamedTuple):
    """What the use of a trained network needs.

    Attributes:
        recipe: The recipe.
        state: Weights and buffers by name.
        class_names: Names of the classes, indexed by label.
        spec: Options that its cache was prepared with.
        facts: Facts of its cache, see `CacheInfo.facts`.
        num_threads: Threads that it was trained with.
        network_digest: Digest of the code of a network of the user; None for those of this package.
    """

    recipe: Recipe
    state: dict[str, Tensor]
    class_names: tuple[str, ...]
    spec: PrepareSpec
    facts: dict[str, Any]
    num_threads: int
    network_digest: str | None = None


def require_safetensors() -> None:
    """Check that safetensors is there.

    Raises:
        MissingPackageError: It is not.
    """
    try:
        import safetensors.torch  # noqa: F401
    except ImportError:
        raise MissingPackageError(
            "weights: found no safetensors, which reads and writes them; install it with: "
            "pip install 'tmkt[safetensors]'"
        ) from None


def exported_files(network: ExportedNetwork, result: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that `read_exported` reads, by name: the same network gives the same bytes.

    Args:
        network: The network.
        result: Facts of its training, for readers of config.json.

    Raises:
        RunError: A part of the state is no tensor, as safetensors expects.
        MissingPackageError: safetensors is not installed.
    """
    require_safetensors()
    from safetensors.torch import save

    for name, value in network.state.items():
        if not isinstance(value, Tensor):
            raise RunError(f"{name}: found {type(value).__name__} in the state of the network, expected a tensor")
    # A copy each: safetensors refuses tensors that share memory, such as tied weights.
    state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state.items()}
    weights, text = save(state, {"format": "pt"}), recipe_text(network.recipe)
    spec = network.spec
    config = {
        "format": _FORMAT,
        "tmkt": version("tmkt"),
        "input_layout": "T, B, C, H, W",
        "input_shape": [spec.time_bins, None, spec.num_channels, spec.size, spec.size],
        "event_scale": network.recipe.data.event_scale,
        "class_names": list(network.class_names),
        "cache_spec": spec.to_dict(),
        "cache_facts": network.facts,
        "num_threads": network.num_threads,
        **({} if network.network_digest is None else {"network_digest": network.network_digest}),
        "result": dict(result),
        "recipe_digest": recipe_digest(parse_toml(text, RECIPE)),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    return {WEIGHTS: weights, RECIPE: text.encode(), CONFIG: (json.dumps(config, indent=2) + "\n").encode()}


def read_exported(folder: Path) -> ExportedNetwork:
    """Read what `exported_files` returned from a folder; nothing in it is executed.

    Raises:
        RunError: A file is missing, altered, or of another version.
        RecipeError: The recipe is not valid.
        MissingPackageError: safetensors is not installed.
    """
    config = _read_config(folder / CONFIG)
    path = folder / RECIPE
    if not path.is_file():
        raise RunError(f"{path}: no such file, expected the recipe; {_DAMAGED}")
    recipe = load_recipe(path)
    if recipe_digest(read_tables(path)) != config["recipe_digest"]:
        raise RunError(f"{path}: was changed, expected the recipe of the training; undo the change")
    try:
        spec = PrepareSpec.from_dict(config["cache_spec"])
    except (SpecError, TypeError) as error:
        raise RunError(f"{folder / CONFIG}: cache_spec: {error}; {_DAMAGED}") from None
    state = _read_weights(folder / WEIGHTS, config["weights_sha256"])
    names = tuple(map(str, config["class_names"]))
    facts, num_threads = config["cache_facts"], config["num_threads"]
    return ExportedNetwork(recipe, state, names, spec, facts, num_threads, config.get("network_digest"))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_bytes(path, error=RunError))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: {error}, expected JSON; {_DAMAGED}") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise RunError(f"{path}: expected a network that tmkt exported, in format {_FORMAT}; export the run again")
    for name, kind in _KINDS.items():
        if not isinstance(config.get(name), kind):
            raise RunError(f"{path}: found {config.get(name)!r:.40} as {name}, expected another type; {_DAMAGED}")
    return config


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    require_safetensors()
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = read_bytes(path, error=RunError)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise RunError(f"{path}: SHA-256 {found[:16]}…, expected {sha256[:16]}… as in {CONFIG}; {_DAMAGED}")
    try:
        state: dict[str, Tensor] = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path}: {error}, expected safetensors; {_DAMAGED}") from None
    return state
