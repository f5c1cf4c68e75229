"""Between the registry's values and MLflow's JSON, in both directions: pure functions."""
