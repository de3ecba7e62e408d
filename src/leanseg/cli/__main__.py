"""`python -m leanseg.cli`, where the `leanseg` script is not on the path."""

from leanseg.cli import main

if __name__ == "__main__":
    main()
