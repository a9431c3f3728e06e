"""The choices that recipes name and the code below them takes; nothing is imported for them."""

from __future__ import annotations

from typing import Literal

MethodName = Literal["event-only", "fine-tune", "kt", "kt+tsm", "tmkt"]
Sampler = Literal["class-balanced", "shuffled"]
Classification = Literal["tet", "mean-logits"]
CkaEstimator = Literal["biased", "debiased"]
ModalityStreams = Literal["mixed", "both"]
SlideSchedule = Literal["off", "cubic", "step"]
MixSchedule = Literal["constant", "linear", "cubic"]
MixDistribution = Literal["sequential", "renormalised"]
"""Distribution of t*: "sequential" may never replace a step, "renormalised" always replaces the last one at least.

The default "sequential" is the rule as stated; "renormalised" is an alternative reading (inferred).
"""

LearningRateSchedule = Literal["cosine", "step", "constant"]
CoefficientMode = Literal["learned", "fixed", "off"]
Surrogate = Literal["triangle", "rectangle"]
BatchNormMode = Literal["per-step", "fused", "none"]
EvalStatistics = Literal["shared", "event"]
Stream = Literal["image", "event"]
Backbone = Literal["vgg-snn", "resnet18", "scnn"]
Head = Stream
