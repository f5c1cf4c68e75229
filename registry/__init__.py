"""A model registry: registered models, versions, aliases, and the models themselves."""

from registry.api import LoadedModel, ModelInfo, load_model, log_model, register_model
from registry.artifacts import ArtifactStore, FileDigest, Manifest
from registry.connection import connect, public_uri
from registry.core import AliasChange, ModelVersion, RegisteredModel, Registry, Reporting
from registry.errors import (
    AliasNotFound,
    AlreadyExists,
    Conflict,
    CorruptModel,
    InvalidModel,
    InvalidParameter,
    InvalidUri,
    ModelLoadFailed,
    NotFound,
    RegistryError,
    SchemaMismatch,
    Unavailable,
)
from registry.models import ENFORCEMENT, LOADER
from registry.models.cache import cached_model, fetch_model, snapshot_directory
from registry.models.flavors import save_model
from registry.models.format import read_mlmodel
from registry.models.pickling import PythonModel
from registry.models.signature import ModelSignature, infer_signature
from registry.page import Page
from registry.tracking import LoggedModel, Tracking
from registry.uri import ModelUri

# fmt: off
__all__ = [
    "ENFORCEMENT", "LOADER", "AliasChange", "AliasNotFound", "AlreadyExists", "ArtifactStore",
    "Conflict", "CorruptModel", "FileDigest", "InvalidModel", "InvalidParameter", "InvalidUri",
    "LoadedModel", "LoggedModel", "Manifest", "ModelInfo", "ModelLoadFailed", "ModelSignature",
    "ModelUri", "ModelVersion", "NotFound", "Page", "PythonModel", "RegisteredModel", "Registry",
    "RegistryError", "Reporting", "SchemaMismatch", "Tracking", "Unavailable", "cached_model", "connect",
    "fetch_model", "infer_signature", "load_model", "log_model", "public_uri", "read_mlmodel",
    "register_model", "save_model", "snapshot_directory",
]
