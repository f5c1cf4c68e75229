"""The program inside a replica. Started by path, never imported there; the gateway imports `frames` only."""
