"""A finished run in use: its network, the preparation that it was trained on, and the classes of new recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmkt_data import PrepareSpec, recording_frames
from tmkt_data.pairs.event_scale import scale_events
from tmkt_train.errors import RunError
from tmkt_train.network.network import Network
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.checkpoint import load_weights
from tmkt_train.training.environment import choose_device, code_changes, numerics
from tmkt_train.training.export_folder import WEIGHTS, is_exported
from tmkt_train.training.exported import read_exported
from tmkt_train.training.result import FinishedFolder, build_for_use, load_selected, read_finished
from tmkt_train.training.setup import FrameFacts


class Prediction(NamedTuple):
    """The class of a recording.

    Attributes:
        label: The predicted class, an index into the class names of the run.
        class_name: Its name.
        probabilities: Softmax of the mean logits of the first t steps, shape (T, K), float64; the last row decides.
    """

    label: int
    class_name: str
    probabilities: NDArray[np.float64]

    @property
    def confidences(self) -> NDArray[np.float64]:
        """Probability of the predicted class after each step, shape (T,)."""
        return self.probabilities[:, self.label]


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, loaded to be used; nothing of it is read again, and its cache is not needed.

    Attributes:
        recipe: The recipe.
        network: The network with the selected weights, in evaluation mode.
        class_names: Names of the classes, indexed by label.
        spec: Options that its cache was prepared with.
        facts: Facts of its cache, see `CacheInfo.facts`.
        device: Where the network is.
        num_threads: Threads that the run was trained with; `predict` uses as many.
        notes: What has changed since it was trained, one line each.
    """

    recipe: Recipe
    network: Network
    class_names: tuple[str, ...]
    spec: PrepareSpec
    facts: dict[str, Any]
    device: torch.device
    num_threads: int
    notes: tuple[str, ...] = ()

    def frames(self, path: str | Path) -> Tensor:
        """Prepare a recording as those of the training: shape (T, 1, C, H, W), float32, on the device.

        Raises:
            EventError: The file is missing or damaged, or is not a recording of this sensor.
        """
        frames = scale_events(recording_frames(path, self.spec, self.facts)[None], self.recipe.data.event_scale)
        return torch.from_numpy(frames).transpose(0, 1).to(self.device)

    @torch.no_grad()
    def predict(self, path: str | Path) -> Prediction:
        """Classify a recording, in any format that `tmkt_data.load_events` reads.

        Raises:
            EventError: The file is missing or damaged, or is not a recording of this sensor.
        """
        with numerics(self.recipe, self.num_threads):
            logits = self.network(self.frames(path), head="event").logits[:, 0].double().cpu()
        steps = torch.arange(1, len(logits) + 1, dtype=torch.float64)[:, None]
        probabilities = torch.softmax(logits.cumsum(dim=0) / steps, dim=1).numpy()
        label = int(probabilities[-1].argmax())
        return Prediction(label, self.class_names[label], probabilities)


def load_run(path: str | Path) -> TrainedRun:
    """Load a finished run from its folder, or from one that `tmkt-train export --safetensors` wrote.

    It is loaded on the device of its recipe.

    Example:
        >>> run = load_run("runs/scnn_nmnist-42")  # doctest: +SKIP
        >>> run.predict("00001.bin").class_name  # doctest: +SKIP
        '5'

    Raises:
        RunError: The run is not finished, damaged, or was written by an earlier version.
        MissingPackageError: The weights are safetensors, and that package is not installed.
    """
    folder = Path(path)
    if is_exported(folder):
        return _load_exported(folder)
    run = read_finished(folder)
    names, spec, facts = facts_of(run)
    device = choose_device(run.recipe)
    network = load_selected(run, frame_facts(spec, len(names)), device)
    notes = code_changes(run.recipe, run.environment.get("network_digest"))
    return TrainedRun(run.recipe, network, names, spec, facts, device, run.environment["num_threads"], notes)


def facts_of(run: FinishedFolder) -> tuple[tuple[str, ...], PrepareSpec, dict[str, Any]]:
    """Return the class names of a run, how its cache was prepared, and the facts of that.

    Raises:
        RunError: The run was written by an earlier version, and has none.
    """
    result = run.result
    missing = [name for name in ("class_names", "cache_spec", "cache_facts") if name not in result]
    if missing:
        raise RunError(f"{run.folder.result}: no {missing[0]}, as in runs of an earlier version; train it again")
    return tuple(result["class_names"]), PrepareSpec.from_dict(result["cache_spec"]), result["cache_facts"]


def frame_facts(spec: PrepareSpec, num_classes: int) -> FrameFacts:
    """Return what a network is built for."""
    return FrameFacts(spec.time_bins, spec.num_channels, (spec.size, spec.size), num_classes)


def _load_exported(folder: Path) -> TrainedRun:
    found = read_exported(folder)
    device = choose_device(found.recipe)
    network = build_for_use(found.recipe, frame_facts(found.spec, len(found.class_names)), device)
    load_weights(network, found.state, folder / WEIGHTS)
    names, notes = found.class_names, code_changes(found.recipe, found.network_digest)
    return TrainedRun(found.recipe, network, names, found.spec, found.facts, device, found.num_threads, notes)
