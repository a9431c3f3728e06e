"""`python -m tmkt_train` is `tmkt-train`."""

from tmkt_train.experiments.parent import stop_with_parent

# First of all: importing the commands takes long enough for the parent to die meanwhile.
stop_with_parent()

from tmkt_train.cli.main import main  # noqa: E402

main(prog_name="tmkt-train")
