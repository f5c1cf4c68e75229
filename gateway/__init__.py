"""The serving gateway's public names."""

from gateway.config import EndpointConfig, Settings
from gateway.errors import GatewayError
from gateway.worker.frames import Payload

__all__ = ["EndpointConfig", "GatewayError", "Payload", "Settings"]
