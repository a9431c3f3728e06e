"""The program `tmkt-data`, also as `python -m tmkt_data`."""

from tmkt_data.cli.start import run_program


def main() -> None:
    """Run `tmkt-data`."""
    run_program(_run)


def _run() -> None:
    from tmkt_data.cli.main import main as command

    command(prog_name="tmkt-data")


if __name__ == "__main__":
    main()
