"""The same main job with the registry on a real PostgreSQL."""

import contextlib

import registry
from tests.e2e.gateways import Gateway, behaving


def test_a_gateway_follows_an_alias_on_postgresql(postgres_url, tmp_path):
    """A move is seen through NOTIFY, and the password appears nowhere."""
    uri = postgres_url()
    secret = uri.replace("postgres@", "postgres:s3cret@")
    with contextlib.closing(registry.connect(uri, artifacts_destination=str(tmp_path / "artifacts"))) as client:
        for number in (1, 2):
            registry.log_model(behaving(number), name="m", registered_model_name="m", client=client)
        client.set_registered_model_alias("m", "champion", "1")
        arguments = ["-m", "models:/m@champion", "--registry-uri", secret, "--cache", str(tmp_path / "cache")]
        with contextlib.closing(Gateway(tmp_path, arguments)) as gateway:
            assert gateway.ready().ask().json() == {"predictions": [1]}

            client.set_registered_model_alias("m", "champion", "2", reason="better")

            gateway.serves(2)
            assert gateway.ask().json() == {"predictions": [2]}
            status = gateway.client.get("/status")
            assert status.json()["registry"]["uri"].startswith("postgresql://")
            assert "s3cret" not in status.text + gateway.log()
