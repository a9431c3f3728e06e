"""The choices that recipes name and the code below them takes; nothing is imported for them."""

from __future__ import annotations

from typing import Literal

MethodName = Literal["event-only", "fine-tune", "kt", "kt+tsm", "tmkt"]
Sampler = Literal["class-balanced", "shuffled"]
Classification = Literal["tet", "mean-logits"]
CkaEstimator = Literal["biased", "debiased"]
ModalityStreams = Literal["mixed", "both"]
SlideSchedule = Literal["off", "cubic", "step"]
MixSchedule = Literal["constant", "linear", "cubic", "self-setting"]
