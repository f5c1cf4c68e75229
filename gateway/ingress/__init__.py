"""Several ingress processes in front of the same replicas: a leader, and the members that it starts."""
