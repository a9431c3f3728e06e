"""A mix ratio that sets itself: the harder side of the two streams gets more of the steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DECAY = 0.95
"""Weight of the past in the running means: about the last twenty steps."""


class LossBalance(nn.Module):
    """The mix ratio as the event stream's part in the classification losses of both streams.

    With running means E of the event stream's loss and M of the mixed stream's, the ratio is E / (E + M). Where
    recordings are few, the event stream has soon learned them by heart, E falls, and the mixed stream is left more
    image steps; where they are many and hard, it gets more event steps. At a ratio of 1 both streams see the same, so
    that the balance draws back to one half. An own choice: the papers set the ratio by hand.

    The running means are buffers: a checkpoint holds them, and a resumed run goes on with the same ratios.
    """

    losses: Tensor

    def __init__(self, start: float) -> None:
        """Start from a ratio, in [0, 1], which holds for the first step."""
        super().__init__()
        self.start = start
        self.register_buffer("losses", torch.zeros(2, dtype=torch.float64))

    def ratio(self) -> float:
        """Return the expected share of event steps for the next batch, in [0, 1]; waits for the GPU."""
        event, mixed = self.losses.tolist()
        total = event + mixed
        return event / total if total > 0 else self.start

    @torch.no_grad()
    def update(self, event_loss: Tensor, mixed_loss: Tensor) -> None:
        """Take in the losses of one batch, scalars of 0 or more."""
        new = torch.stack([event_loss, mixed_loss]).to(self.losses)
        self.losses.lerp_(new, 1 - _DECAY)
