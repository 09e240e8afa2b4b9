"""`python -m d2i_helpers` is `d2i`."""

from d2i_helpers.cli import main

if __name__ == "__main__":
    main()
