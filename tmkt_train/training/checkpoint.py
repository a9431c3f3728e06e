"""The two checkpoints of a run: last.pt to resume from, best.pt with the selected weights.

Both are written atomically, keep the one before under another name, and are read without running code.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tmkt_data.errors import warnings_ignored
from tmkt_data.files import atomic_write, read_bytes
from tmkt_train.errors import NonFiniteError, RecipeError, RunError
from tmkt_train.recipe.load import parse_toml, recipe_digest
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.record import differing_keys
from tmkt_train.training.setup import TrainingSetup
from tmkt_train.training.state import TrainingState

FORMAT = 1


def save_checkpoint(path: Path, values: Mapping[str, Any], *, previous: Path | None = None) -> None:
    """Write a checkpoint atomically.

    Args:
        path: File.
        values: Tensors, numbers, strings, and dicts and lists of them.
        previous: Name, in the same folder, that the checkpoint which was there is kept under; None to replace it. Its
            bytes are not written again.

    Raises:
        RunError: It cannot be written; the checkpoint that was there stays as it was.
    """
    # In memory first: torch's own writer may abort the process when the disk is full.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **values}, buffer)
    with atomic_write(path, sync="name", error=RunError) as file:
        file.write(buffer.getbuffer())
        if previous is not None:
            # Before the older one gives way, the new one is on the disk.
            file.flush()
            os.fsync(file.fileno())
            _keep(path, previous)


def _keep(path: Path, previous: Path) -> None:
    """Give a checkpoint a second name, which stays when the first one is replaced."""
    if not path.is_file():
        return
    second = path.with_name(f".{previous.name}.{os.urandom(4).hex()}.tmp")
    try:
        second.hardlink_to(path)
    except OSError:
        # No hard links here. A process that dies before it has written the new one leaves the older name alone.
        path.replace(previous)
        return
    second.replace(previous)
    # Where both names were of one file already, POSIX renames nothing.
    second.unlink(missing_ok=True)


def load_checkpoint(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        RunError: It is missing, cut off, altered, of another version, or cannot be read.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; it was removed, or the run was stopped before it wrote one")
    return parse_checkpoint(read_bytes(path, error=RunError), path, device)


def parse_checkpoint(data: bytes, path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Read a checkpoint from its bytes; nothing in it is executed.

    Raises:
        RunError: It is cut off, altered, or of another version.
    """
    try:
        file = io.BytesIO(data)
        with zipfile.ZipFile(file) as archive:
            # Torch does not check the checksums of the members.
            altered = archive.testzip()
        if altered is not None:
            raise ValueError(f"{altered} was altered")
        file.seek(0)
        with warnings_ignored:
            values = torch.load(file, map_location=device or "cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged bytes raise about any error in zipfile and torch
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise RunError(f"{path}: not a readable checkpoint ({reason}); start a new run") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise RunError(f"{path}: found another format, expected checkpoint format {FORMAT}; start a new run")
    return values


def require_finite(parameters: Iterable[tuple[str, Tensor]], place: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        NonFiniteError: Names the first such parameter.
    """
    named = list(parameters)
    if not named:
        return
    finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    for (name, _), good in zip(named, finite, strict=True):
        if not good:
            raise NonFiniteError(f"{place}: {name} is NaN or infinite; lower optim.learning_rate or loss weights")


def last_values(recipe: Recipe, setup: TrainingSetup, state: TrainingState) -> dict[str, Any]:
    """Return what last.pt holds: everything that is needed to resume.

    Raises:
        NonFiniteError: A weight is NaN or infinite.
    """
    weights = [*setup.model.state_dict().items(), *setup.method.state_dict().items()]
    require_finite(weights, f"epoch {state.epoch + (state.batch > 0)}")
    values = {
        "position": state.state_dict(),
        "model": setup.model.state_dict(),
        "method": setup.method.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "recipe": recipe_text(recipe),
    }
    return values | {"scaler": setup.scaler.state_dict()} if setup.scaler.is_enabled() else values


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of the weights and buffers of a module, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_weights(module: nn.Module, weights: Any, place: Path) -> None:
    """Load weights into a module.

    Raises:
        RunError: They belong to another module, or are not weights.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError, KeyError, ValueError):
        raise RunError(f"{place}: the weights are of another network than the recipe; start a new run") from None


def require_same_recipe(folder: RunFolder, environment: Mapping[str, Any]) -> None:
    """Refuse a run whose recipe.toml was edited after the start, when its environment was recorded.

    Raises:
        RunError: It was edited, or cannot be read; names the changed keys if last.pt has the recipe.
    """
    now = folder.read_recipe_tables()
    if recipe_digest(now) == environment["recipe_digest"]:
        return
    keys = _changed_keys(folder, now)
    found = f"{', '.join(keys)} changed" if keys else "the settings changed"
    raise RunError(
        f"{folder.recipe}: {found}, expected the recipe that the run was started with; "
        "undo the change, or start a new run with the changed recipe"
    )


def _changed_keys(folder: RunFolder, now: Mapping[str, Any]) -> list[str]:
    for path in (folder.last, folder.last_previous):
        try:
            before = parse_toml(str(load_checkpoint(path)["recipe"]), str(path))
        except (RunError, RecipeError, KeyError, ValueError):
            continue
        return differing_keys([before, now])
    return []
