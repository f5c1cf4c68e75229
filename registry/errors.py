"""What can go wrong in a registry, each with the code and the status that MLflow's clients act on.

RegistryError
├── InvalidParameter       400 INVALID_PARAMETER_VALUE: the request itself is wrong
│   ├── InvalidUri         not a models:/ reference, or a registry address that cannot be used
│   ├── AliasNotFound      the model exists, the alias does not (400 is MLflow's choice)
│   ├── InvalidModel       a model directory that cannot be read
│   └── SchemaMismatch     data or params that a signature refuses
├── AlreadyExists          400 RESOURCE_ALREADY_EXISTS: the name is taken
├── NotFound               404 RESOURCE_DOES_NOT_EXIST: no such model, version, logged model or file
├── Conflict               409 RESOURCE_CONFLICT: somebody moved the alias meanwhile
├── CorruptModel           500 INTERNAL_ERROR: files differ from those that were registered
├── ModelLoadFailed        500 INTERNAL_ERROR: loading raised; says which packages are missing
└── Unavailable            503 TEMPORARILY_UNAVAILABLE: locked, gone, or not answering; try again
"""

from __future__ import annotations


class RegistryError(Exception):
    """The root: `str(error)` is one sentence that says what was asked, what was found and what to do."""

    error_code = "INTERNAL_ERROR"
    http_status = 500


class InvalidParameter(RegistryError):
    error_code = "INVALID_PARAMETER_VALUE"
    http_status = 400


class InvalidUri(InvalidParameter):
    pass


class AliasNotFound(InvalidParameter):
    pass


class InvalidModel(InvalidParameter):
    pass


class SchemaMismatch(InvalidParameter):
    pass


class AlreadyExists(RegistryError):
    error_code = "RESOURCE_ALREADY_EXISTS"
    http_status = 400


class NotFound(RegistryError):
    error_code = "RESOURCE_DOES_NOT_EXIST"
    http_status = 404


class Conflict(RegistryError):
    error_code = "RESOURCE_CONFLICT"
    http_status = 409


class CorruptModel(RegistryError):
    pass


class ModelLoadFailed(RegistryError):
    pass


class Unavailable(RegistryError):
    error_code = "TEMPORARILY_UNAVAILABLE"
    http_status = 503
