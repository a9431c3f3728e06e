"""Run folders made for reports, and what a page of one holds."""

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

import tmkt_train.report
from tmkt_train.recipe.load import recipe_digest
from tmkt_train.report.page import write_report

VOID = {"meta"}
SCRIPT = Path(tmkt_train.report.__path__[0], "page.js").read_text(encoding="utf-8").strip()
NUM_STEPS = 4


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.urls, self.ids, self.words, self.unnamed = [], [], [], [], [], []
        self.scripts = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self._see(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._see(tag, dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def _see(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [attrs[key] for key in ("src", "href", "xlink:href", "data", "action") if key in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "svg" and not attrs.get("aria-label"):
            self.unnamed.append(tag)

    @property
    def links(self):
        return [url for url in self.urls if not url.startswith("#")]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def toml_value(value):
    return json.dumps(value)


def make_run(
    path, *, method="tmkt", num_classes=3, seed=0, epochs=3, accuracy=0.75, names=None, per_class=10, **result
):
    path.mkdir(parents=True)
    recipe = {
        "data": {"dataset": "digits", "protocol": "twin-disjoint", "recordings_per_class": per_class},
        "method": {"name": method},
        "mix": {"ratio": 0.5, "law": "sequential"},
        "train": {"epochs": epochs},
    }
    lines = ['name = "tiny"', f"seed = {seed}"]
    for table, values in recipe.items():
        lines += [f"[{table}]", *(f"{key} = {toml_value(value)}" for key, value in values.items())]
    (path / "recipe.toml").write_text("\n".join(lines) + "\n")
    environment = {"torch": "2.9.1", "cache": "digits.h5", "cache_digest": "cafe0123", "num_threads": 1}
    environment |= {"recipe_digest": recipe_digest(tomllib.loads("\n".join(lines)))}
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "metrics.jsonl").write_text("".join(json.dumps(epoch_line(i, method)) + "\n" for i in range(epochs)))
    (path / "result.json").write_text(
        json.dumps(
            {
                "dataset": "digits",
                "recipe": "tiny",
                "method": method,
                "protocol": "twin-disjoint",
                "seed": seed,
                "epochs": epochs,
                "best_epoch": epochs - 1,
                "val_accuracy": 0.8125,
                "test_accuracy": accuracy,
                "num_test": 400,
                "num_parameters": 598422,
                "cache_digest": "cafe0123",
                "split_digest": "beef4567",
                "optimistic": False,
                "selected_on": "val",
                "warnings": [],
                "environment": environment,
                "wall_s": 5025.0,
                "peak_memory_bytes": 734003200,
                "pair_report": {"label_agreement": 1.0, "num_reachable_heldout": 0},
                "inferred": ["mix.ratio = 0.5"],
                **result,
            }
        )
    )
    np.savez(path / "diagnostics.npz", **diagnostics(method, num_classes, names))
    return path


def make_bare_run(path, **options):
    """Make a run of which the pages have no figures but those of the comparison; figures take time."""
    run = make_run(path, **options)
    (run / "metrics.jsonl").unlink()
    (run / "diagnostics.npz").unlink()
    return run


def epoch_line(epoch, method):
    line = {
        "epoch": epoch,
        "lr": 0.001,
        "train_loss": 2.0 - epoch / 4,
        "loss_terms": {"event_classification": 1.0},
        "train_accuracy": 0.5,
        "val_accuracy": 0.7125 + epoch / 20,
        "val_loss": 1.5,
    }
    if method == "tmkt":
        line["loss_terms"] |= {"image_classification": 1.5, "alignment": 0.01, "modality": 0.6, "ratio": 0.1}
        line |= {"mix_ratio": 0.5, "realised_ratio": 0.49, "realised_ratio_sd": 0.39}
        line |= {"modality_accuracy": 0.9, "ratio_error": 0.2, "cka": 0.8, "cka_shuffled": 0.5}
        line |= {"coefficients": [0.7, 0.72, 0.71, 0.7]}
    return line


def diagnostics(method, num_classes, names):
    names = names or [f"class {i}" for i in range(num_classes)]
    rng = np.random.default_rng(0)
    arrays = {
        "confusion": np.diag(np.full(num_classes, 9)) + np.eye(num_classes, k=1, dtype=np.int64),
        "class_names": np.array(names),
        "firing_layer": np.array(["conv1", "fc1"]),
        "firing_rate_events": np.array([0.125, 0.0625], np.float32),
        "strips": rng.random((2, 4 if method == "tmkt" else 1, NUM_STEPS, 5, 5, 3), np.float32),
        "strip_ids": np.array([f"{names[0]}/0001", f"{names[1]}/0002"]),
        "strip_labels": np.array([names[0], names[1]]),
        "strip_predictions": np.array([names[0], names[2]]),
    }
    if method == "tmkt":
        arrays["firing_rate_images"] = np.array([0.25, 0.375], np.float32)
        arrays["replacement_histogram"] = np.array([250, 190, 150, 110, 300])
    return arrays


def page_of(*runs, out):
    text = write_report(runs, out).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert page.unnamed == []
    assert len(page.ids) == len(set(page.ids))
    for url in page.urls:
        assert url.startswith("data:image/png;base64,") or url.removeprefix("#") in page.ids, url
    # No other script than that of the page, whatever names hold.
    assert page.tags.count("script") == 1
    assert "".join(page.scripts).strip() == SCRIPT
    assert re.search(r"url\(|@import|https?://", text) is None
    return page
