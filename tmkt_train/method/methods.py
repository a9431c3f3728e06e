"""Methods by name: how a batch becomes a loss.

To add a method: a module with `forward(model, batch, progress)` that returns an `Objective`, its name in
`options.MethodName`, the keys that it does not look at in `recipe`, and its line here. A method that differs only in
which steps are replaced is a field of `Mixer`; one that leaves out objectives is `TwoStreams` with their weights at 0.
"""

from __future__ import annotations

from dataclasses import replace

from tmkt_train.choices import MethodName
from tmkt_train.method.mixer import Mixer
from tmkt_train.method.objective import LossWeights
from tmkt_train.method.single_stream import EventOnly, FineTune
from tmkt_train.method.two_streams import TwoStreams

Method = EventOnly | FineTune | TwoStreams


def build_method(
    name: MethodName,
    *,
    weights: LossWeights,
    mixer: Mixer,
    num_steps: int,
    feature_size: int,
    image_epochs: int = 0,
) -> Method:
    """Build a method with fresh parameters from torch's global generator.

    Args:
        name: Name in the recipe.
        weights: Weights of the terms; `kt` and `kt+tsm` leave modality and ratio out.
        mixer: Draw of the replacement points.
        num_steps: Steps of the network, T.
        feature_size: Width of the feature before the class head.
        image_epochs: Epochs on images alone, for `fine-tune`.
    """
    match name:
        case "event-only":
            return EventOnly(weights)
        case "fine-tune":
            return FineTune(weights, image_epochs)
        case "kt" | "kt+tsm":
            weights = replace(weights, modality=0.0, ratio=0.0)
        case "tmkt":
            pass
    return TwoStreams(weights, mixer, num_steps=num_steps, feature_size=feature_size)
