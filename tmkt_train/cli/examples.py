"""Examples in the help of the commands of `tmkt-train`."""

EXAMPLES = {
    "check": ["tmkt-train check scnn_digits --set mix.ratio=0.8", "tmkt-train check scnn_digits --measure"],
    "compare": ["tmkt-train compare scnn_digits scnn_digits_event_only --seeds 5 --event-share 0.1,1.0"],
    "evaluate": ["tmkt-train evaluate runs/scnn_digits-tmkt-seed42"],
    "export": ["tmkt-train export runs/scnn_digits-tmkt-seed42 --safetensors"],
    "few-shot": ["tmkt-train few-shot runs/scnn_nomniglot-tmkt-seed42 --ways 5,20 --shots 1,5"],
    "predict": ["tmkt-train predict runs/scnn_digits-tmkt-seed42 recording.npz --csv"],
    "recipe": ["tmkt-train recipe scnn_digits", "tmkt-train recipe scnn_digits --set train.epochs=1 --out runs/trial"],
    "recipes": ["tmkt-train recipes", "tmkt-train recipes --json"],
    "report": ["tmkt-train report runs/scnn_digits-tmkt-seed42", "tmkt-train report runs/one runs/two --out both.html"],
    "resume": ["tmkt-train resume runs/scnn_digits-tmkt-seed42"],
    "suggest": ["tmkt-train suggest scnn_digits", "tmkt-train suggest --cache caches/digits.h5 --seeds 5"],
    "sweep": ["tmkt-train sweep scnn_digits --over mix.ratio=0.1:0.9 --trials 9"],
}
"""Command lines by command."""
