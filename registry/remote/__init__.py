"""A registry behind MLflow's REST API: our server or a stock one."""
