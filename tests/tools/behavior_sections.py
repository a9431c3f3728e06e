"""What `behavior_digests` records: which command lines run, and what of their results is kept.

Each section takes a `Recorder` and fills it.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import made_files
import numpy as np
from digest_recorder import (
    LIMIT_S,
    REMOVED_FROM_METRICS,
    REMOVED_FROM_RESULT,
    Outcome,
    Recorder,
    cache_tables,
    csv_rows,
    file_digest,
    leaves,
    picture_digest,
    tree_digest,
    value_digest,
    visible_text,
    without,
)
from short_trainings import TRAININGS, training_arguments

DATA, TRAIN = "tmkt_data", "tmkt_train"
MARKS = ("unused by this method", "unused by this network", "unused by this optimizer", "inferred")
"""What `tmkt-train check` may say behind a setting."""

# Caches of `digits`: the options of `tmkt-data prepare`.
SHARES = ("--val-share", "0.05", "--test-share", "0.05")
TINY = ("--time-bins", "4", "--size", "16", *SHARES)
DIGITS: dict[str, tuple[str, ...]] = {
    "digits": (),
    "digits-voxel": ("--representation", "voxel", "--time-bins", "5", "--size", "20"),
    "digits-tonic": ("--bin-rule", "tonic", "--resize", "bilinear", "--canvas", "tight", "--size", "20"),
    "digits-spikingjelly": ("--bin-rule", "spikingjelly", "--resize", "area", "--size", "28", "--time-bins", "6"),
    "digits-large": ("--size", "50", "--time-bins", "2", "--image-channel", "luminance"),
    "digits-poisson": ("--bake", "poisson", *TINY),
    "digits-repeat": ("--bake", "repeat", "--image-channel", "blue", *TINY),
    "digits-turned": ("--orientation", "rotate-90", "--polarity", "inverted", "--shift-x", "-1", *TINY),
    "digits-filtered": ("--hot-pixels", "2", "--refractory-us", "1000", "--background-us", "3000", *TINY),
    "digits-late": ("--time-offset-us", "1234567", "--orientation", "transpose", "--shift-y", "2", *TINY),
    "digits-split": ("--split-seed", "7", "--val-share", "0.2", "--test-share", "0.3", "--size", "16"),
    "tiny": TINY,
    "tiny-voxel": ("--representation", "voxel", *TINY),
}
NMNIST: dict[str, tuple[str, ...]] = {
    "nmnist-real": (),
    "nmnist-real-tight": ("--canvas", "tight", "--resize", "bilinear", "--bin-rule", "tonic", "--size", "28"),
    "nmnist-real-voxel": ("--representation", "voxel", "--resize", "area", "--size", "24", "--time-bins", "5"),
}
MADE: dict[str, tuple[str, ...]] = {
    "ncaltech101": ("--image-decode", "full", "--canvas", "fixed", "--resize", "bilinear"),
    "cepdvs": ("--sensor-size", "240x180", "--time-unit", "ms", "--orientation", "flip-x"),
    "nomniglot": ("--canvas", "tight", "--time-bins", "5"),
    "folder": ("--time-bins", "3", "--size", "32"),
}
"""Further options for some of the datasets of `made_files`, beside none."""
TWIN_CLASSES = ("anchor", "watch", "yin_yang")
TWINS_OF_A_CLASS = 8

PAIRINGS: tuple[dict[str, Any], ...] = (
    {},
    {"pairing": "twin", "encoder": "poisson", "seed": 3},
    {"pairing": "none", "scale": "log1p", "split": "val"},
    {"protocol": "kt-paper", "scale": "max", "split": "test"},
    {"image_pool": "all", "scale": "step-max", "seed": 1},
    {"image_pool": "shuffled-prefix", "scale": "binary"},
    {"event_share": 0.1, "image_share": 0.2, "scale": "clip1", "seed": 5},
    {"per_class": 3, "classes": [1, 4, 7]},
)
"""Arguments of `PairedFrames` that are read."""
MISTAKES: dict[str, tuple[str, ...]] = {
    "dataset": (DATA, "prepare", "digit"),
    "option": (DATA, "prepare", "digits", "--resize", "nearest"),
    "range": (DATA, "prepare", "digits", "--time-bins", "0"),
    "folder": (DATA, "prepare", "nmnist", "--root", "nowhere"),
    "usage": (DATA, "prepare"),
    "cache": (DATA, "inspect", "wrong.bin"),
    "recording": (DATA, "events", "wrong.bin"),
    "exists": (DATA, "convert", "wrong.bin", "wrong.npz"),
    "recipe": (TRAIN, "check", "scnn_digit"),
    "setting": (TRAIN, "check", "scnn_digits", "--set", "train.epochs=ten", "--set", "mix.rato=0.5"),
    "contradiction": (TRAIN, "check", "scnn_digits", "--set", "optim.warmup_epochs=9"),
    "other-cache": (TRAIN, "recipe", "scnn_nmnist", "--cache", "wrong.bin"),
    "no-run": (TRAIN, "evaluate", "runs/nowhere"),
    "unfinished": (TRAIN, "report", "runs/nowhere"),
}


def record_help(to: Recorder) -> None:
    """Record the options and commands of both commands; the wording is kept as text."""
    for package in (DATA, TRAIN):
        commands = re.findall(r"^  ([a-z][a-z-]*)  ", to.run(f"help/{package}", package, "--help").out, re.MULTILINE)
        to.digests[f"help/{package}/commands"] = " ".join(sorted(commands))
        for command in commands:
            text = to.run(f"help/{package}/{command}", package, command, "--help").out
            options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.partition("\nOptions:")[2])
            usage = text.partition("\n\n")[0]
            to.digests[f"help/{package}/{command}/options"] = " ".join(sorted(set(options)))
            to.digests[f"help/{package}/{command}/usage"] = " ".join(usage.split())


def record_names(to: Recorder) -> None:
    """Record what `tmkt_data` offers to Python: its names, and how each is called."""
    import tmkt_data

    to.digests["names"] = " ".join(sorted(tmkt_data.__all__))
    for name in sorted(tmkt_data.__all__):
        offered = getattr(tmkt_data, name)
        if isinstance(offered, type):
            inherited = dir(Exception) if issubclass(offered, Exception) else ()
            public = [attribute for attribute in dir(offered) if not attribute.startswith("_")]
            to.digests[f"names/{name}/attributes"] = " ".join(sorted(set(public) - set(inherited)))
        if callable(offered) and not (isinstance(offered, type) and issubclass(offered, Exception)):
            parameters = inspect.signature(offered).parameters.values()
            words = (str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters)
            to.digests[f"names/{name}/parameters"] = re.sub(r" at 0x\w+", "", " ".join(words))


def record_recipes(to: Recorder) -> None:
    """Record every recipe that can be named: its resolved values, and what is marked at them."""
    names = list(recipe_names(to.run("recipes", TRAIN, "recipes").out))
    to.digests["recipes/names"] = " ".join(names)
    own = to.work / "own.toml"
    own.write_text('extends = "scnn_nmnist_kt"\nname = "own"\ntitle = "One\'s own"\n[train]\nepochs = 3\n')
    for name in (*names, own.name):
        lines = to.run(f"recipes/{name}", TRAIN, "check", name).out.splitlines()
        settings = [split_setting(line) for line in lines if line.startswith("  ")]
        to.record_value(f"recipes/{name}/values", {key: value for key, value, _ in settings})
        to.record_value(f"recipes/{name}/marks", {key: mark for key, _, mark in settings if mark})


def recipe_names(listing: str) -> Iterator[str]:
    """Yield the names of a listing: families at the start of a line, and the endings behind `also:`."""
    for block in re.split(r"\n(?=\S)", listing.strip()):
        family = block.split()[0]
        if family in ("train", "also:"):
            continue
        yield family
        yield from (f"{family}{ending}" for ending in block.partition("also:")[2].split())


def split_setting(line: str) -> tuple[str, str, str]:
    """Split a line of `tmkt-train check` into key, value and mark."""
    mark = next((mark for mark in MARKS if line.endswith(f" {mark}")), "")
    key, _, value = line.removesuffix(mark).strip().partition(" ")
    return key, value.strip(), mark


def record_recordings(to: Recorder) -> None:
    """Record what is read from a recording of each format, and its conversion into others."""
    real = {
        "real-nmnist": to.data / "nmnist" / "N-MNIST" / "Train" / "5" / "00001.bin",
        "real-ncaltech101": to.data / "ncaltech101" / "Caltech101" / "Faces_easy" / "image_0001.bin",
        "real-aedat4": to.data / "aedat4" / "sample.aedat4",
        "real-evt2": to.data / "evt" / "evt2.raw",
    }
    made = {path.name: path for path in made_files.write_recordings(to.work / "made" / "recordings")}
    for name, path in (real | made).items():
        summary = to.run(f"events/{name}", DATA, "events", path, "--json").out
        to.record_value(f"events/{name}/summary", json.loads(summary or "null"))
        record_conversions(to, name, path, (".npz", ".bin", ".aedat4") if name in real else (".npz",))
    for name in ("real-nmnist", "real-ncaltech101"):
        picture = to.work / f"{name}.png"
        to.run(f"events/{name}/picture", DATA, "events", real[name], "--out", picture)
        to.digests[f"events/{name}/picture"] = picture_digest(picture)
    to.run("events/sensor", DATA, "events", real["real-aedat4"], "--sensor", "100x100")


def record_conversions(to: Recorder, name: str, path: Path, suffixes: Sequence[str]) -> None:
    """Convert a recording into some of the formats that can be written."""
    for suffix in suffixes:
        target = to.work / "converted" / f"{name}{suffix}"
        target.parent.mkdir(exist_ok=True)
        to.run(f"convert/{name}{suffix}", DATA, "convert", path, target)
        if suffix == ".npz" and target.is_file():
            with np.load(target) as columns:
                to.record_arrays(f"convert/{name}{suffix}/columns", dict(columns))
        elif suffix == ".bin":
            to.record_file(f"convert/{name}{suffix}/bytes", target)


def record_caches(to: Recorder) -> None:
    """Record caches of every dataset, and what is said of them."""
    for name, options in DIGITS.items():
        record_cache(to, name, "digits", *options)
    to.digests["sources/digits"] = tree_digest(to.caches / "digits-source")
    for name, options in NMNIST.items():
        record_cache(to, name, "nmnist", "--root", to.data / "nmnist", *options)
    one = ("--events", to.data / "ncaltech101", "--images", to.data / "caltech101")
    record_cache(to, "ncaltech101-real", "ncaltech101", *one)
    photographs = copy_photographs(to)
    record_cache(to, "caltech101-twins", "caltech101-twins", "--root", photographs)
    to.digests["sources/caltech101-twins"] = tree_digest(to.caches / "caltech101-twins-source")
    record_made(to)
    record_sources(to)
    record_two_workers(to)
    record_interrupted(to)
    record_compressed(to)
    to.run("datasets", DATA, "datasets")


def record_cache(to: Recorder, name: str, dataset: str, *options: str | Path) -> None:
    """Prepare a cache and record its digest, its bytes, its frames and its tables."""
    path = to.caches / f"{name}.h5"
    to.run(f"cache/{name}/prepare", DATA, "prepare", dataset, *options, "--workers", "1", "--out", path)
    if not path.is_file():
        return
    shown = to.run(f"cache/{name}/inspect", DATA, "inspect", path).out
    found = re.search(r"^ *digest +([0-9a-f]{64})$", shown, re.MULTILINE)
    to.digests[f"cache/{name}/content"] = found[1] if found else "not shown"
    to.record_file(f"cache/{name}/bytes", path)
    frames, tables = cache_tables(path)
    for key, array in frames.items():
        to.record_arrays(f"cache/{name}/{key}", {"frames": array})
    to.record_arrays(f"cache/{name}/tables", tables)


def copy_photographs(to: Recorder) -> Path:
    """Copy a few photographs of a few classes; return their folder."""
    root = to.work / "photographs"
    for name in TWIN_CLASSES:
        folder = root / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        photographs = sorted((to.data / "caltech51" / "101_ObjectCategories" / name).glob("*.jpg"))
        for path in photographs[:TWINS_OF_A_CLASS]:
            shutil.copy(path, folder)
    return root


def record_made(to: Recorder) -> None:
    """Record caches of all layouts of `made_files`, and what doctor says of them."""
    for name, (dataset, write) in made_files.DATASETS.items():
        root = to.work / "made" / name
        write(root)
        unpaired = ("--allow-unpaired",) if name == "dvsgesture" else ()
        record_cache(to, f"made-{name}", dataset, "--root", root, *unpaired)
        if name in MADE:
            record_cache(to, f"made-{name}-other", dataset, "--root", root, *MADE[name])
        found = to.run(f"doctor/{name}", DATA, "doctor", dataset, "--root", root, "--deep", "--json").out
        facts = {key: value for key, value in json.loads(found or "{}").items() if isinstance(value, int | bool)}
        to.record_value(f"doctor/{name}/facts", facts)
    sides = ("--events", to.work / "made" / "nomniglot", "--images", to.data / "omniglot")
    record_cache(to, "nomniglot-real-images", "nomniglot", *sides, "--allow-unpaired")


def record_sources(to: Recorder) -> None:
    """Record a cache of an archive, one without a damaged file, and the list of digests that doctor writes."""
    archive = shutil.make_archive(str(to.work / "made" / "nmnist-packed"), "zip", to.work / "made" / "nmnist")
    record_cache(to, "made-nmnist-zip", "nmnist", "--root", Path(archive))
    sums = to.work / "nmnist.sha256"
    to.run("doctor/digests", DATA, "doctor", "nmnist", "--root", to.work / "made" / "nmnist", "--digests", sums)
    to.record_file("doctor/digests/bytes", sums)
    root = to.work / "made" / "damaged"
    shutil.copytree(to.work / "made" / "folder", root)
    path = root / "events" / "wave" / "take-1.bin"
    path.write_bytes(path.read_bytes()[:-2])
    to.run("cache/damaged/refused", DATA, "prepare", "folder", "--root", root, "--out", to.caches / "damaged.h5")
    record_cache(to, "damaged", "folder", "--root", root, "--skip-bad")


def record_two_workers(to: Recorder) -> None:
    """Record whether two workers write the bytes that one writes, and whether a second run does nothing."""
    path = to.caches / "two-workers.h5"
    to.run("cache/two-workers/prepare", DATA, "prepare", "digits", "--workers", "2", "--out", path)
    one, two = (file_digest(to.caches / f"{name}.h5") for name in ("digits", "two-workers"))
    to.digests["cache/two-workers/same_bytes_as_one"] = str(one == two)
    again = to.run("cache/two-workers/again", DATA, "prepare", "digits", "--out", path)
    to.digests["cache/two-workers/already_prepared"] = str("already prepared" in again.out)


def record_interrupted(to: Recorder) -> None:
    """Record whether a preparation that is stopped and run again ends with the bytes of an undisturbed one."""
    path = to.caches / "interrupted.h5"
    arguments = ("prepare", "digits", "--workers", "1", "--out", path)
    run_and_stop(to, DATA, arguments, lambda: any(to.caches.glob("interrupted.h5.building/*")))
    to.run("cache/interrupted/again", DATA, *arguments)
    to.texts["cache/interrupted/again"] = "how much was kept differs from time to time"
    same = file_digest(path) == file_digest(to.caches / "digits.h5")
    to.digests["cache/interrupted/same_bytes_as_undisturbed"] = str(same)


def record_compressed(to: Recorder) -> None:
    """Record a cache that is compressed and written in one piece again."""
    plain, packed, undone = (to.caches / f"{name}.h5" for name in ("tiny", "tiny-packed", "tiny-undone"))
    to.run("cache/packed/compress", DATA, "compress", plain, "--out", packed)
    to.run("cache/packed/undo", DATA, "compress", packed, "--undo", "--out", undone)
    to.run("cache/packed/verify", DATA, "verify", packed)
    to.run("cache/plain/verify", DATA, "verify", plain)
    to.record_file("cache/packed/bytes", packed)
    to.digests["cache/packed/undone_is_same"] = str(file_digest(plain) == file_digest(undone))


def record_pairs(to: Recorder) -> None:
    """Record what is read from caches, reports on pairings, and contact sheets."""
    for name in ("tiny", "digits-poisson", "tiny-voxel", "nmnist-real", "caltech101-twins"):
        record_read(to, name)
    for name in ("digits", "nmnist-real", "caltech101-twins"):
        path = to.caches / f"{name}.h5"
        for options in ((), ("--pairing", "twin", "--protocol", "kt-paper"), ("--seed", "3", "--no-alignment")):
            place = "/".join(("pairs", name, *options))
            report = to.run(place, DATA, "pairs", path, "--json", *options).out
            to.record_value(f"{place}/report", json.loads(report or "null"))
    previews = {"digits": (), "digits-poisson": ("--pairing", "twin"), "tiny-voxel": ("--samples", "2", "--seed", "4")}
    for name, options in (previews | {"made-dvsgesture": ("--pairing", "none")}).items():
        picture = to.work / f"preview-{name}.png"
        to.run(f"preview/{name}", DATA, "preview", to.caches / f"{name}.h5", "--out", picture, *options)
        to.digests[f"preview/{name}/pixels"] = picture_digest(picture)


def record_read(to: Recorder, name: str) -> None:
    """Record what `PairedFrames` gives of a cache, in two epochs and for samples that come up twice."""
    from tmkt_data import PairedFrames

    path = to.caches / f"{name}.h5"
    baked = ({"encoder": "baked"},) if name == "digits-poisson" else ()
    for number, arguments in enumerate((*PAIRINGS, *baked)):
        place = f"read/{name}/{number}"
        try:
            frames = PairedFrames(path, **arguments)
        except ValueError as problem:
            to.digests[place] = type(problem).__name__
            continue
        indices = np.arange(min(12, len(frames)))
        for epoch in (0, 3):
            frames.set_epoch(epoch)
            batch = frames.read(indices, indices % 2)
            to.record_arrays(f"{place}/epoch-{epoch}", batch._asdict())
        to.record_value(f"{place}/split", [len(frames), frames.split_digest, list(frames.ids)[:50]])


def record_training(to: Recorder) -> None:
    """Record a short training of every method, network and option."""
    for name in TRAININGS:
        to.run(f"train/{name}", TRAIN, "recipe", *training_arguments(name, to.caches), "--out", to.work / "runs" / name)
        record_run(to, f"train/{name}", to.work / "runs" / name)
    run = to.work / "runs" / "tmkt"
    to.run("evaluate", TRAIN, "evaluate", run)
    to.run("check/resolved", TRAIN, "check", run / "recipe.toml", "--cache", to.caches / "tiny.h5")
    for name, options in (("data-held-out", ("--ways", "2,4", "--shots", "1,5")), ("tmkt", ("--ways", "5"))):
        few = (*options, "--episodes", "50", "--queries", "2", "--seed", "1")
        to.run(f"few-shot/{name}", TRAIN, "few-shot", to.work / "runs" / name, *few)
        record_json(to, f"few-shot/{name}/result", to.work / "runs" / name / "few_shot.json")
    page = to.work / "several.html"
    others = (to.work / "runs" / name for name in ("event-only", "kt"))
    to.run("report/several", TRAIN, "report", run, *others, "--out", page)
    to.texts["report/several/text"] = to.normalized(visible_text(page.read_text())) if page.is_file() else ""


def record_run(to: Recorder, name: str, run: Path) -> None:
    """Record the files of a run folder."""
    for file in ("last.pt", "best.pt"):
        record_checkpoint(to, f"{name}/{file}", run / file)
    rows = [json.loads(line) for line in read_text(run / "metrics.jsonl").splitlines()]
    metrics = [without(row, REMOVED_FROM_METRICS) for row in rows]
    to.record_value(f"{name}/metrics", metrics)
    to.digests[f"{name}/metrics_values"] = value_digest(list(leaves(metrics)))
    result = without(json.loads(read_text(run / "result.json") or "{}"), REMOVED_FROM_RESULT)
    to.record_value(f"{name}/result", result)
    to.record_value(f"{name}/recipe", tomllib.loads(read_text(run / "recipe.toml")))
    if (run / "diagnostics.npz").is_file():
        with np.load(run / "diagnostics.npz") as arrays:
            to.record_arrays(f"{name}/diagnostics", dict(arrays))
    to.texts[f"{name}/report"] = to.normalized(visible_text(read_text(run / "report.html")))


def record_checkpoint(to: Recorder, name: str, path: Path) -> None:
    """Record the weights of a checkpoint, the state of its optimizer and of the generator."""
    import torch

    if not path.is_file():
        to.digests[name] = "missing"
        return
    state = torch.load(path, weights_only=True, map_location="cpu")
    for part in ("model", "method"):
        if part in state:
            to.record_weights(f"{name}/{part}", state[part])
    if "optimizer" in state:
        moments = {
            f"{place:04d}.{key}": torch.as_tensor(value)
            for place, table in state["optimizer"]["state"].items()
            for key, value in table.items()
        }
        to.record_arrays(f"{name}/optimizer", {key: value.numpy() for key, value in moments.items()})
        to.record_value(f"{name}/groups", state["optimizer"]["param_groups"])
        to.record_arrays(f"{name}/generator", {"state": state["generator"].numpy()})


def record_experiments(to: Recorder) -> None:
    """Record a comparison, two sweeps, and a run that is stopped and resumed."""
    common = training_arguments("tmkt", to.caches, **{"train.epochs": "1"})[1:]
    out = to.work / "compare"
    recipes = ("scnn_digits_event_only", "scnn_digits")
    shares = ("--seeds", "2", "--event-share", "0.1,0.5")
    to.run("compare", TRAIN, "compare", *recipes, *shares, *common, "--out", out)
    to.record_value("compare/table", csv_rows(out / "table.csv"))
    to.record_value("compare/summary", csv_rows(out / "summary.csv"))
    to.texts["compare/text"] = to.normalized(visible_text(read_text(out / "report.html")))
    sweeps = {
        "grid": ("--over", "mix.ratio=0.2:0.8", "--grid", "--trials", "2", "--seeds", "2"),
        "search": ("--over", "mix.ratio=0.1:0.9", "--over", "loss.modality=0.01:1:log", "--trials", "3"),
    }
    for name, options in sweeps.items():
        out = to.work / "sweeps" / name
        to.run(f"sweep/{name}", TRAIN, "sweep", "scnn_digits", *options, *common, "--out", out)
        to.record_value(f"sweep/{name}/table", csv_rows(out / "sweep.csv"))
        to.texts[f"sweep/{name}/text"] = to.normalized(visible_text(read_text(out / "report.html")))
    record_resumed(to)


def record_resumed(to: Recorder) -> None:
    """Record a run that is stopped in its second epoch and resumed, beside the same one undisturbed."""
    arguments = training_arguments("tmkt", to.caches, **{"train.epochs": "3", "train.steps_per_epoch": "40"})
    whole, stopped = (to.work / "runs" / name for name in ("whole", "stopped"))
    to.run("resume/whole", TRAIN, "recipe", *arguments, "--out", whole)
    started = ("recipe", *arguments, "--out", stopped)
    ended = run_and_stop(to, TRAIN, started, lambda: bool(read_text(stopped / "metrics.jsonl")))
    to.record_outcome("resume/stopped", ended)
    to.texts["resume/stopped"] = "how far it came differs from time to time"
    to.run("resume/resumed", TRAIN, "resume", stopped)
    to.texts["resume/resumed"] = "where it goes on differs from time to time"
    for name, run in (("whole", whole), ("resumed", stopped)):
        record_checkpoint(to, f"resume/{name}/last.pt", run / "last.pt")
    same = to.digests.get("resume/whole/last.pt/model") == to.digests.get("resume/resumed/last.pt/model")
    to.digests["resume/same_weights"] = str(same)
    rows = ([json.loads(line) for line in read_text(run / "metrics.jsonl").splitlines()] for run in (whole, stopped))
    one, two = ([without(row, REMOVED_FROM_METRICS) for row in table] for table in rows)
    to.digests["resume/same_metrics"] = str(one == two)


def run_and_stop(to: Recorder, package: str, arguments: Sequence[str | Path], is_due: Callable[[], bool]) -> Outcome:
    """Run a command and interrupt it once `is_due`."""
    line = [sys.executable, "-m", package, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, cwd=to.work, text=True, **pipes) as process:
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            if is_due():
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.02)
        out, err = process.communicate(timeout=LIMIT_S)
    return Outcome(process.returncode, out, err)


def record_mistakes(to: Recorder) -> None:
    """Record how wrong commands end; the wording is kept as text."""
    for name in ("wrong.bin", "wrong.npz"):
        (to.work / name).write_bytes(bytes(4))
    for name, (package, *arguments) in MISTAKES.items():
        to.run(f"mistakes/{name}", package, *arguments)


def record_json(to: Recorder, name: str, path: Path) -> None:
    """Record the content of a JSON file."""
    to.record_value(name, json.loads(read_text(path) or "null"))


def read_text(path: Path) -> str:
    """Return the text of a file; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


SECTIONS: dict[str, Callable[[Recorder], None]] = {
    "help": record_help,
    "names": record_names,
    "recipes": record_recipes,
    "recordings": record_recordings,
    "caches": record_caches,
    "pairs": record_pairs,
    "training": record_training,
    "experiments": record_experiments,
    "mistakes": record_mistakes,
}
"""Sections in the order in which they run; later ones use what earlier ones made."""
NEEDS = dict.fromkeys(("pairs", "training", "experiments"), ("caches",))
"""Sections that others need."""
