"""Fit the simulated camera to real recordings, print how close it comes, and draw docs/images/simulator.png.

    python docs/draw_simulator.py ../shared/data/nmnist

The argument is a folder as `tmkt-data simulate --like` takes it. Half of the recordings are held out from the fit; the
table and the figure are of these.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from tmkt_data.datasets.known_recordings import read_known
from tmkt_data.events.events import Events
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.camera_file import camera_text
from tmkt_data.simulate.closeness import count_frames, rate_profile
from tmkt_data.simulate.fit import CameraFit

FIGURE = Path(__file__).parent / "images" / "simulator.png"
NUM_SHOWN = 5


def main() -> int:
    """Fit, print and draw; returns the exit status."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    known = read_known(Path(sys.argv[1]))
    figure = Path(sys.argv[2]) if len(sys.argv) > 2 else FIGURE
    fit = CameraFit(known.fitted, known.sensor_size, CameraSettings())
    *_, last = fit.run()
    shown = known.held_out or known.fitted
    print("\n".join(line for line in camera_text(last.settings).splitlines() if not line.startswith("#")))
    for name, value in fit.closeness(last.settings, shown)._asdict().items():
        print(f"{name:20} {value:.3f}")
    draw([one.events for one in shown], fit.record(last.settings, shown), last.settings.path.total_us, figure)
    print(f"wrote {figure}")
    return 0


def draw(real: list[Events], simulated: list[Events], total_us: int, figure: Path) -> None:
    """Draw events per pixel of some recordings, ON minus OFF, and the mean rate over time of all."""
    num_shown = min(NUM_SHOWN, len(real))
    layout = [[f"{side}{number}" for number in range(num_shown)] for side in "rs"] + [["rate"] * num_shown]
    picture, axes = plt.subplot_mosaic(layout, figsize=(8, 6), height_ratios=[1, 1, 1], layout="constrained")
    for side, name, recordings in (("r", "real", real), ("s", "simulated", simulated)):
        for number, at in enumerate(np.linspace(0, len(recordings) - 1, num_shown).round().astype(int).tolist()):
            events = recordings[at]
            assert events.sensor_size is not None
            frames = count_frames(events, events.sensor_size, total_us).sum(axis=0)
            axis = axes[f"{side}{number}"]
            axis.imshow(frames.sum(axis=0), cmap="gray_r")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{len(events):,}", fontsize=8)
            if not number:
                axis.set_ylabel(name)
        for polarity, line in ((True, "-"), (False, ":")):
            chosen = [
                Events(*(getattr(one, column)[one.p == polarity] for column in "txyp"), one.sensor_size, 0)
                for one in recordings
            ]
            profile = rate_profile(chosen, total_us)
            color = "black" if side == "r" else "tab:orange"
            label = f"{name}, {'ON' if polarity else 'OFF'}"
            axes["rate"].plot(np.arange(len(profile)) * 10 + 5, profile, line, color=color, label=label)
    axes["rate"].set_xlabel("time, ms")
    axes["rate"].set_ylabel("events per 10 ms")
    axes["rate"].legend(frameon=False, ncols=2)
    picture.savefig(figure, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
