"""`python -m tmkt_data` is `tmkt-data`."""

from tmkt_data.cli.main import main

main(prog_name="tmkt-data")
