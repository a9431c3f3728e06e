"""Images to events: a moving image before a model of an event camera, one file per part.

`saccade.py` moves the image, `pixels.py` is the sensor, `recording.py` puts both together.
"""

from __future__ import annotations

from tmkt_data.simulate.recording import (
    DEFAULT_SETTINGS,
    NMNIST_SETTINGS,
    SIMULATOR_VERSION,
    SimulatorSettings,
    simulate_recording,
)
from tmkt_data.simulate.saccade import SaccadePath

__all__ = [
    "DEFAULT_SETTINGS",
    "NMNIST_SETTINGS",
    "SIMULATOR_VERSION",
    "SaccadePath",
    "SimulatorSettings",
    "simulate_recording",
]
