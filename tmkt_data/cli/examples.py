"""Examples in the help of the commands of `tmkt-data`."""

EXAMPLES = {
    "compress": ["tmkt-data compress caches/digits.h5", "tmkt-data compress caches/digits.zstd.h5 --undo"],
    "convert": ["tmkt-data convert recording.aedat4 recording.npz"],
    "datasets": ["tmkt-data datasets", "tmkt-data datasets --json"],
    "doctor": ["tmkt-data doctor nmnist --root data", "tmkt-data doctor folder --root mine --deep"],
    "download": ["tmkt-data download nmnist --to data"],
    "events": ["tmkt-data events recording.aedat4", "tmkt-data events first.npz second.npz --time-unit s --json"],
    "export": ["tmkt-data export caches/digits.h5 shards", "tmkt-data export caches/digits.h5 hub --format parquet"],
    "inspect": ["tmkt-data inspect caches/digits.h5"],
    "pairs": ["tmkt-data pairs caches/digits.h5", "tmkt-data pairs caches/digits.h5 --pairing twin --json"],
    "plan": ["tmkt-data plan nmnist --root data --out plan.json --shards 8"],
    "prepare": [
        "tmkt-data prepare digits",
        "tmkt-data prepare nmnist --root data --time-bins 5 --size 34",
        "tmkt-data prepare folder --root mine --skip-bad",
        "tmkt-data prepare tonic:NMNIST --root data --images MNIST_png/Train",
        "tmkt-data prepare --plan plan.json --shard 1/8",
        "tmkt-data prepare nmnist --root data --shards 8 --dask local:4",
    ],
    "preview": ["tmkt-data preview caches/digits.h5", "tmkt-data preview caches/digits.h5 --html pairs.html"],
    "remove": ["tmkt-data remove digits", "tmkt-data remove caches/digits.h5 --yes"],
    "simulate": ["tmkt-data simulate photos recordings --sensor-size 128x128"],
    "verify": ["tmkt-data verify caches/digits.h5"],
}
"""Command lines by command."""
