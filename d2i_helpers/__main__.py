"""`python -m d2i_helpers` is `d2i`, and so is the command: the outermost of all that runs."""

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still being read in leaves no traceback either."""
    try:
        from d2i_helpers.cli import main as run_command_line
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
