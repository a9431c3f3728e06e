"""What stands beside what in a training step on a GPU: the reference, plain layers, and ours in every precision."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_work import dtype_of, tf32
from scnn_step import Plain
from step_references import Reference, plain_loss
from torch import Tensor, nn

from tmkt_train.choices import Backbone
from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.environment import numerics
from tmkt_train.training.optimizer import build_optimizer
from tmkt_train.training.setup import TrainingSetup


class NotThereError(Exception):
    """This version of tmkt, or this machine, cannot do what a contender needs."""


class System(NamedTuple):
    """What is trained: the settings of a recipe at a batch size, with the shape of its frames."""

    recipe: str
    backbone: Backbone
    shape: FrameShape
    num_classes: int
    batch_size: int


VGG_SNN = System("vggsnn_ncaltech", "vgg-snn", FrameShape(10, 2, (48, 48)), 101, 120)
RESNET18 = System("resnet18_cepdvs", "resnet18", FrameShape(6, 2, (48, 48)), 20, 120)
SCNN = System("scnn_digits", "scnn", FrameShape(10, 2, (34, 34)), 10, 32)


class Contender(NamedTuple):
    """Who computes a step.

    Attributes:
        who: "reference", "plain" for the layers of spikingjelly in our network, or "ours" for what a run does.
        precision: A name of `train.precision`.
        is_graph: Whether the iteration is replayed as a CUDA graph.
        is_tuned: Whether cuDNN measures its algorithms first.
    """

    who: str
    precision: str
    is_graph: bool = False
    is_tuned: bool = False

    @property
    def name(self) -> str:
        """The contender in words."""
        more = [", CUDA graph"] * self.is_graph + [", cudnn.benchmark"] * self.is_tuned
        return f"{self.who} {self.precision}{''.join(more)}"


REFERENCE = Contender("reference", "tf32", is_tuned=True)
CONTENDERS = (
    REFERENCE,
    Contender("ours", "tf32"),
    Contender("ours", "bfloat16"),
    Contender("ours", "float16"),
    Contender("ours", "tf32", is_graph=True),
    Contender("ours", "bfloat16", is_graph=True),
    Contender("ours", "float16", is_graph=True),
    Contender("ours", "bfloat16", is_tuned=True),
    Contender("plain", "tf32"),
    Contender("plain", "bfloat16"),
    Contender("plain", "float16"),
    Contender("ours", "float32"),
)

Take = Callable[[], Tensor]
"""Train for one step; return the loss."""


class Running(NamedTuple):
    """A contender at work: what trains for a step, and its network."""

    take: Take
    network: nn.Module


@contextmanager
def settings_of(contender: Contender, system: System) -> Iterator[None]:
    """Set what torch takes from the process: for ours as a run sets it, for the reference as its script does."""
    recipe = _recipe(system, contender) if contender.who == "ours" else None
    run = nullcontext() if recipe is None else numerics(recipe)
    with tf32(contender.precision != "float32", tuned=contender.is_tuned), run:
        torch.backends.cudnn.benchmark = contender.is_tuned
        yield


def build(contender: Contender, system: System, batch: Batch) -> Running:
    """Build a contender with the weights that all have; call this, and its steps, in `settings_of`.

    Raises:
        NotThereError: This version of tmkt cannot do it.
    """
    torch.manual_seed(0)
    heads = Heads(system.num_classes, separate=system.backbone != "scnn")
    model = build_model(system.backbone, system.shape, heads, LayerChoices())
    device = batch.events.device
    if contender.who == "reference":
        if system.backbone != "vgg-snn":
            raise NotThereError("the reference is a VGG-SNN")
        network = Reference(model).to(device)
        return Running(_build_reference(network, batch), network)
    model.to(device)
    if device.type == "cpu" and (contender.is_graph or dtype_of(contender.precision) != torch.float32):
        raise NotThereError("on a GPU only")
    if contender.is_graph and importlib.util.find_spec("tmkt_train.training.iteration") is None:
        raise NotThereError("iterations cannot be recorded in this version")
    take = _build_ours(contender, system, model, batch)
    if contender.who != "plain" or contender.precision in ("float32", "tf32") or hasattr(model, "compute_dtype"):
        return Running(take, model)

    def cast() -> Tensor:
        with torch.autocast(device.type, dtype_of(contender.precision)):
            return take()

    return Running(cast, model)


def _build_reference(network: nn.Module, batch: Batch) -> Take:
    loss_of, parameters = plain_loss(network, batch)
    optimizer = torch.optim.AdamW(parameters, lr=5e-4, weight_decay=0.01)

    def take() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return take


def _recipe(system: System, contender: Contender) -> Recipe:
    from tmkt_train.errors import RecipeError

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = contender.precision if device == "cuda" else "float32"
    settings = [f"train.precision={precision}", f"train.device={device}"]
    try:
        return load_recipe(find_recipe(system.recipe), settings)
    except RecipeError as error:
        raise NotThereError(error.problems[0]) from error


def _build_ours(contender: Contender, system: System, model: Any, batch: Batch) -> Take:
    """Build what a run trains; `plain` is the same network, its layers called one by one."""
    recipe = _recipe(system, contender if contender.who == "ours" else contender._replace(precision="tf32"))
    is_half, device = contender.precision not in ("float32", "tf32"), batch.events.device
    if hasattr(model, "compute_dtype"):
        model.compute_dtype = dtype_of(contender.precision)
    elif is_half and contender.who == "ours":
        raise NotThereError("the network computes in float32 only in this version")
    mixer = Mixer(system.shape.num_time_steps, recipe.mix, 0.5, recipe.slide)
    method = build_method(recipe.method.name, recipe.loss, mixer=mixer, feature_size=model.feature_size).to(device)
    network = Plain(model) if contender.who == "plain" else model
    optimizer = build_optimizer(recipe.optim, model, method)
    scaler = torch.amp.GradScaler(device.type, enabled=contender.precision == "float16")
    parts = {"model": network, "method": method, "optimizer": optimizer, "scaler": scaler, "device": device}
    parts |= {"batches_per_epoch": 65, "num_draws": 65 * len(batch)}
    try:
        from tmkt_train.training.iteration import Iteration, ReplayedIteration
    except ImportError:
        return _step_by_hand(parts, batch)
    # The data stay out: the batch is there already.
    fields = [field.name for field in dataclasses.fields(TrainingSetup)]
    setup = TrainingSetup(**{name: parts.get(name) for name in fields})
    iteration = (ReplayedIteration if contender.is_graph else Iteration)(setup)

    def take() -> Tensor:
        loss = iteration(batch, 0.1).loss
        if contender.is_graph and "failed" in iteration.description:
            raise RuntimeError(iteration.description)
        return loss

    return take


def _step_by_hand(parts: dict[str, Any], batch: Batch) -> Take:
    def take() -> Tensor:
        parts["optimizer"].zero_grad(set_to_none=True)
        loss: Tensor = parts["method"](parts["model"], batch, 0.1).loss
        parts["scaler"].scale(loss).backward()
        parts["scaler"].step(parts["optimizer"])
        parts["scaler"].update()
        return loss.detach()

    return take


def draw_batch(system: System, device: torch.device, batch_size: int | None = None, seed: int = 1) -> Batch:
    """Draw a batch on the device: images that are the same at each step, and event counts of a few active regions.

    About a third of the pixels see no event at all, and the mean is 2 a pixel, as in N-Caltech101 at 48 x 48.
    """
    size, shape = batch_size or system.batch_size, system.shape
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(size, 1, 6, 6, generator=draw)
    rates = torch.nn.functional.interpolate(coarse, size=shape.size, mode="bicubic")
    rates = torch.where(rates > -0.4, torch.exp(1.2 * rates), 0.0).expand(shape.num_time_steps, size, 2, *shape.size)
    events = torch.poisson(rates, generator=draw).to(device)
    images = torch.rand(size, 1, *shape.size, generator=draw).to(device)
    images = images.expand(shape.num_time_steps, size, shape.num_channels, *shape.size)
    labels = (torch.arange(size) % system.num_classes).to(device)
    rows = np.arange(size)
    return Batch(images, events, labels, rows, DrawKeys(0, 0, rows.astype(np.uint64), 0 * rows))


def small(system: System) -> System:
    """Return the system with a few small frames, to try the script on a CPU."""
    return system._replace(shape=FrameShape(2, 2, (16, 16)), batch_size=4)
