"""Every training option with a fixed set of values, as a `Literal`; all layers use them. Imports nothing."""

from __future__ import annotations

from typing import Literal

Auto = Literal["auto"]
All = Literal["all"]
ByCount = Literal["by-count"]
Default = Literal["default"]
"""None in a recipe: the dataset's own value."""

Stream = Literal["image", "event"]
Head = Stream
Backbone = Literal["vgg-snn", "resnet18", "scnn"]
BatchNormMode = Literal["per-step", "fused", "none"]
EvalStatistics = Literal["shared", "event"]
Surrogate = Literal["triangle", "rectangle"]
BatchScope = Literal["global", "local"]
"""Where several ranks train: the samples of all of them, or those of each rank."""
Computed = Literal["kernels", "plain"]
"""Who computed a layer: kernels that fuse several layers, or the layer itself."""

MethodName = Literal["event-only", "images-only", "fine-tune", "kt", "kt+tsm", "tmkt"]
SlideSchedule = Literal["off", "cubic", "step", "late-step"]
MixSchedule = Literal["constant", "linear", "cubic"]
MixDistribution = Literal["sequential", "renormalised"]
"""Distribution of t*: "sequential" may never replace a step, "renormalised" replaces at least the last one.

The default "sequential" is the rule as stated; "renormalised" is an alternative reading (inferred).
"""

Classification = Literal["tet", "mean-logits"]
CkaEstimator = Literal["biased", "debiased"]
ModalityStreams = Literal["mixed", "both"]
CoefficientMode = Literal["learned", "fixed", "off"]

OptimizerName = Literal["adamw", "sgd", "adam"]
LearningRateSchedule = Literal["cosine", "step", "constant"]
Sampler = Literal["class-balanced", "shuffled"]
SelectedEpoch = Literal["best", "last"]
SelectedOn = Literal["val", "test", "none"]
"""Split that selects the epoch; "none" where the last epoch is taken."""
FinalSplit = Literal["test", "val"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "tf32", "float16", "bfloat16"]
Cluster = Literal["slurm", "local"]
"""Where runs are submitted; "local" starts processes here, as a check."""
LoggerName = Literal["wandb", "mlflow"]
"""Where metrics are logged, besides the run folder; each is the name of a package and of an extra."""
RunStatus = Literal["missing", "interrupted", "finished"]
