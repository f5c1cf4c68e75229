"""`python -m gateway`: the `turnout` command."""

from gateway.cli import main

if __name__ == "__main__":
    main()
