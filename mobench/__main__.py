"""`python -m mobench`."""

from mobench.cli import main

if __name__ == "__main__":
    main()
