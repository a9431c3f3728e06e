"""The program `tmkt-train`, also as `python -m tmkt_train`."""

from tmkt_data.cli.start import run_program


def main() -> None:
    """Run `tmkt-train`."""
    run_program(_run)


def _run() -> None:
    from tmkt_train.experiments.parent import stop_with_parent

    # First of all: importing the commands takes long enough for the parent to die meanwhile.
    stop_with_parent()

    from tmkt_train.cli.main import main as command

    command(prog_name="tmkt-train")


if __name__ == "__main__":
    main()
