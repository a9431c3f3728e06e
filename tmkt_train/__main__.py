"""`python -m tmkt_train` is `tmkt-train`."""

from tmkt_train.cli.main import main

main(prog_name="tmkt-train")
