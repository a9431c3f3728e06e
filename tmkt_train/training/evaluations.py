"""The evaluations of a run: what is done of one outlives a stop, and the same weights are evaluated once."""

from __future__ import annotations

from collections.abc import Callable

from tmkt_data import PairedFrames
from tmkt_train.data.batches import evaluation_batches
from tmkt_train.data.device import DeviceFrames
from tmkt_train.data.sampling import count_batches
from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.network.collectives import num_ranks, own_rank
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.loop import BatchResult, Evaluation, evaluate
from tmkt_train.training.ranks import on_first
from tmkt_train.training.setup import TrainingSetup


class Evaluations:
    """Evaluates the network of a run.

    Results are kept by the digest of the weights and the split, so that those of other weights are never taken: a run
    whose last checkpoint is damaged trains an epoch again, and a GPU may then find others.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, setup: TrainingSetup) -> None:
        self._folder, self._recipe, self._setup = folder, recipe, setup
        self._kept: dict[str, list[BatchResult]] = {}
        self._stopped = on_first(self._load)

    def evaluate(
        self, frames: PairedFrames | DeviceFrames, stop_if_asked: Callable[[], None], *, keep: bool = False
    ) -> Evaluation:
        """Evaluate the weights that the network has now on a split, from the batch on at which it was stopped.

        Args:
            frames: The split.
            stop_if_asked: Called after each batch; raises to stop.
            keep: Keep the results for another evaluation of the same weights.

        Raises:
            RunInterruptedError: `stop_if_asked` raised it; what is done is in the folder.
            RunError: The split has no samples, or what is done cannot be written.
        """
        split = frames.frames if isinstance(frames, DeviceFrames) else frames
        key = on_first(lambda: self._key(split)) if keep or self._kept or self._stopped else ""
        if key in self._kept:
            return evaluate(self._setup.model, (), self._recipe.loss, self._kept[key])
        done = self._stopped.pop(key, [])
        if len(done) >= self._num_batches(split):
            # The result also says who computed the network, which a pass tells.
            del done[self._num_batches(split) - 1 :]
            stop_if_asked = _go_on
        batch_size = self._recipe.train.eval_batch_size
        batches = evaluation_batches(
            frames,
            batch_size=batch_size,
            device=self._setup.device,
            first=len(done) + own_rank(),
            every=num_ranks(),
        )
        try:
            evaluation = evaluate(self._setup.model, batches, self._recipe.loss, done, stop_if_asked)
        except RunInterruptedError:
            if own_rank() == 0:
                self._save(self._kept | {self._key(split): done})
            raise
        self._kept = self._kept | {key: done} if keep else {}
        return evaluation

    def _num_batches(self, split: PairedFrames) -> int:
        return count_batches(len(split), self._recipe.train.eval_batch_size, drop_last=False)

    def _key(self, split: PairedFrames) -> str:
        return f"{split.split} {len(split)} {weights_digest(self._setup.model)}"

    def _save(self, results: dict[str, list[BatchResult]]) -> None:
        plain = {key: [list(result) for result in done] for key, done in results.items()}
        save_checkpoint(self._folder.evaluations, {"evaluations": plain})

    def _load(self) -> dict[str, list[BatchResult]]:
        """Return what a stopped run has left; without it, or if it is damaged, there is more to evaluate."""
        if not self._folder.evaluations.is_file():
            return {}
        try:
            values = load_checkpoint(self._folder.evaluations, self._setup.device)["evaluations"]
            return {str(key): [BatchResult(*result) for result in done] for key, done in values.items()}
        except (RunError, KeyError, TypeError, AttributeError):
            return {}


def _go_on() -> None:
    """Do not stop."""
