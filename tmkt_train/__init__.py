"""Train spiking networks on paired image and event data: time-step mixup, its baselines, one loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmkt_train.training.trained import TrainedRun, load_run

__all__ = ["TrainedRun", "load_run"]


def __getattr__(name: str) -> Any:
    # torch is imported on first use, so that importing the recipes alone stays quick.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tmkt_train.training import trained

    return getattr(trained, name)
