"""Modules that exist only in training: auxiliary heads and the coefficients of the regularization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmkt_data.errors import SpecError
from tmkt_train.choices import CoefficientMode


class AuxiliaryHeads(nn.Module):
    """Heads for modality guidance and ratio perception (inferred): one linear map each, on the feature."""

    def __init__(self, feature_size: int) -> None:
        """Build both heads for a feature of width D_f."""
        super().__init__()
        self.modality_head = nn.Linear(feature_size, 1)
        self.ratio_head = nn.Linear(feature_size, 1)

    def modality(self, features: Tensor) -> Tensor:
        """Return the logit that a frame is an event frame: features (T, B, D_f) to (T, B)."""
        logits: Tensor = self.modality_head(features)
        return logits.squeeze(-1)

    def ratio(self, features: Tensor) -> Tensor:
        """Predict the mix ratio of a sequence from its mean feature: (T, B, D_f) to (B,), in (0, 1)."""
        logits: Tensor = self.ratio_head(features.mean(dim=0))
        return logits.squeeze(-1).sigmoid()


class RegularizationCoefficients(nn.Module):
    """Weights sigma of alignment against event classification, one per step.

    Calling it gives sigma, shape (T,), or None when the regularization is off. The alignment loss is weighted
    with sigma, the event loss with 1 - sigma.

    Source:
        Spatio-temporal regularization of He et al., AAAI 2024; for time-step mixup (inferred).
    """

    sigma: Tensor

    def __init__(self, num_time_steps: int, mode: CoefficientMode = "learned", value: float = 0.5) -> None:
        """Build the coefficients.

        Args:
            num_time_steps: Time steps T.
            mode: "learned" is the logistic function of T scalars that start at 1 (sigma 0.731), to be trained
                without weight decay; "fixed" is `value` at every step; "off" applies no weights.
            value: The fixed coefficient, in [0, 1]; 0 drops the alignment, 1 the event loss.

        Raises:
            SpecError: The value lies outside [0, 1].
        """
        super().__init__()
        if not 0.0 <= value <= 1.0:
            message = f"regularization: coefficient {value:g}, expected 0 to 1; choose a share between none and all"
            raise SpecError(message)
        self.mode: CoefficientMode = mode
        self.eta = nn.Parameter(torch.ones(num_time_steps)) if mode == "learned" else None
        self.register_buffer("sigma", torch.full((num_time_steps,), value), persistent=False)

    def forward(self) -> Tensor | None:
        """Return sigma, shape (T,), in [0, 1], with the gradient to the scalars; None when off."""
        match self.mode:
            case "learned":
                return None if self.eta is None else self.eta.sigmoid()
            case "fixed":
                return self.sigma
            case "off":
                return None
