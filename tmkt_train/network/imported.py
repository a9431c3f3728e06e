"""A network from elsewhere, named by its import path such as "mypackage.nets:build"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tmkt_train.choices import Head
from tmkt_train.errors import RunError
from tmkt_train.network.network import FrameShape, Network, NetworkOutput

_ROWS = 2
_GAINS = 1, 2, 4, 8
"""The same frames twice at each: a state that is left shows where neurons are driven neither too little nor too far."""


class ImportedNetwork(Network):
    """A module of the user as the network of a training.

    The module takes frames (T, B, C, H, W), float32, and returns a tuple: logits (T, B, K), features (T, B, D_f), and
    membrane potentials (T, B, ...) or nothing in their place, so that the features are aligned. It starts every call
    from rest. If its forward has an argument `stream`, it is told "image" or "event"; both streams run one after the
    other. In half precision it runs under autocast.
    """

    def __init__(self, module: nn.Module, shape: FrameShape) -> None:
        """Wrap a module; its initial weights are its own."""
        super().__init__()
        self.body = module
        self.event_head = self.image_head = None
        self.frame_shape = shape
        self.compute_dtype = None
        self.spiking_layer_names = []
        self.takes_stream = "stream" in inspect.signature(module.forward).parameters

    def forward(self, frames: Tensor, head: Head = "event", tap: bool = False, plain: bool = False) -> NetworkOutput:  # noqa: ARG002 - it has no kernels
        """Run one stream; see `SpikingNetwork.forward`."""
        stream = {"stream": head} if self.takes_stream else {}
        half = self.compute_dtype in (torch.float16, torch.bfloat16)
        with torch.autocast(frames.device.type, self.compute_dtype, enabled=half):
            logits, features, *potentials = self.body(frames, **stream)
        tapped = features if not potentials or potentials[0] is None else potentials[0].flatten(2)
        return NetworkOutput(logits.float(), features.float(), tapped.float() if tap else None)


def import_network(path: str, shape: FrameShape, num_classes: int) -> ImportedNetwork:
    """Build a network by import path: call what it names with a `FrameShape` and the number of classes.

    Modules are also looked for in the current directory, as with `python -m`.

    Raises:
        RunError: It cannot be imported or built, or does not do what `ImportedNetwork` says; tried in evaluation mode
            on random frames.
    """
    place = f"model.backbone: {path}"
    build = _import(place, path)
    try:
        inspect.signature(build).bind(shape, num_classes)
    except TypeError as error:
        raise RunError(f"{place}: takes other arguments ({error}), expected (shape, num_classes)") from None
    except ValueError:
        # Built-in functions may have no signature.
        pass
    module = _call(f"{place} cannot build a network", build, shape, num_classes)
    if not isinstance(module, nn.Module):
        raise RunError(f"{place}: returned {type(module).__name__}, expected a torch.nn.Module")
    network = ImportedNetwork(module, shape)
    _try(place, network, num_classes)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RunError(f"{place}: has no parameters to train, expected some; register its layers as attributes")
    return network


def source_digest(path: str) -> str:
    """Return a digest of the file that an import path names; "" if it has none."""
    name = path.partition(":")[0]
    _look_here()
    try:
        module = sys.modules.get(name)
        spec = importlib.util.find_spec(name) if module is None else module.__spec__
        return hashlib.sha256(Path(str(spec and spec.origin)).read_bytes()).hexdigest()[:16]
    except Exception:  # noqa: BLE001 - the package around a module is code of others, which raises anything
        return ""


def _look_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()


def _import(place: str, path: str) -> Callable[..., Any]:
    name, _, attribute = path.partition(":")
    _look_here()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others raises anything
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise RunError(
                f"{place}: found no module {error.name}; install it, or start in the folder that holds it, here "
                f"{Path.cwd()}"
            ) from None
        raise RunError(f"{place}: {name} cannot be imported ({_reason(error)}); fix it") from None
    build = getattr(module, attribute, None)
    if build is None:
        raise RunError(f"{place}: {name} has no {attribute}, expected a function; check the name after the colon")
    if not callable(build):
        raise RunError(f"{place}: found {type(build).__name__}, expected a function of (shape, num_classes)")
    found: Callable[..., Any] = build
    return found


def _call(failed: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except torch.OutOfMemoryError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others raises anything
        raise RunError(f"{failed} ({_reason(error)}); fix it") from None


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _try(place: str, network: ImportedNetwork, num_classes: int) -> None:
    """Run a network, check its outputs, and set the widths of its features and of what aligns the streams."""
    shape = network.frame_shape
    frames = torch.rand(
        shape.num_time_steps, _ROWS, shape.num_channels, *shape.size, generator=torch.Generator().manual_seed(0)
    )
    # On the device that the network was built on, which may be one without values.
    frames = frames.to(torch.empty(0).device)
    network.eval()
    failed = f"{place} fails on frames {tuple(frames.shape)}"
    found = _call(failed, _outputs, network, frames)
    _check(place, found, (shape.num_time_steps, _ROWS), num_classes)
    if frames.device.type != "meta" and _keeps_state(failed, network, frames, found):
        raise RunError(
            f"{place}: gave other outputs for the same frames in a second call, expected the same; reset the state of "
            "its neurons when forward begins"
        )
    network.train()
    network.feature_size = found[1].shape[2]
    network.alignment_size = found[-1].flatten(2).shape[2]


@torch.no_grad()
def _keeps_state(failed: str, network: ImportedNetwork, frames: Tensor, found: tuple[Tensor, ...]) -> bool:
    """Return whether a network gives other outputs for the same frames, which it gave `found` for, in a second call."""
    for gain in _GAINS:
        first = found if gain == 1 else _call(failed, _outputs, network, gain * frames)
        second = _call(failed, _outputs, network, gain * frames)
        # Outputs that are NaN are refused in the training.
        if not all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(first, second, strict=True)):
            return True
    return False


def _outputs(network: ImportedNetwork, frames: Tensor) -> tuple[Any, ...]:
    stream = {"stream": "event"} if network.takes_stream else {}
    outputs = network.body(frames, **stream)
    if not isinstance(outputs, tuple):
        raise TypeError(f"returned {type(outputs).__name__}, expected a tuple (logits, features, potentials or None)")
    return outputs[:2] if len(outputs) == 3 and outputs[2] is None else outputs


def _check(place: str, outputs: tuple[Any, ...], rows: tuple[int, int], num_classes: int) -> None:
    if len(outputs) not in (2, 3) or not all(isinstance(output, Tensor) for output in outputs):
        kinds = ", ".join(type(output).__name__ for output in outputs)
        raise RunError(f"{place}: returned ({kinds}), expected tensors (logits, features, potentials or None)")
    logits, features, *potentials = outputs
    steps = f"T={rows[0]}, B={rows[1]}"
    for name, output, fits, expected in (
        ("logits", logits, tuple(logits.shape) == (*rows, num_classes), f"[{steps}, K={num_classes}]"),
        ("features", features, features.ndim == 3 and tuple(features.shape[:2]) == rows, f"[{steps}, D]"),
        *(("potentials", v, v.ndim >= 3 and tuple(v.shape[:2]) == rows, f"[{steps}, ...]") for v in potentials),
    ):
        if not fits:
            raise RunError(f"{place}: {name} have shape {list(output.shape)}, expected {expected}; time comes first")
        if not output.requires_grad:
            raise RunError(f"{place}: {name} have no gradient, expected one to the parameters; do not detach them")
