"""`python -m registry`: the registry's commands without the gateway's."""

from registry.cli import cli

if __name__ == "__main__":
    cli(prog_name="python -m registry")
