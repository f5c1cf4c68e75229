"""The registry's HTTP server: MLflow's REST API and Turnout's own, over a `ServedRegistry`."""
