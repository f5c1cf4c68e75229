"""python -m gateway.ingress: one member, started by a leader and by nobody else."""

import sys

from gateway.ingress.member import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
