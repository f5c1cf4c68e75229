"""Moving in from a running MLflow server, and out to one: models, versions, aliases, tags, runs and files.

Both directions can be stopped and repeated: what is there already is recognised and left, or brought up to date.
"""

from registry.transfer.incoming import MlflowImport as MlflowImport
from registry.transfer.outgoing import MlflowExport as MlflowExport
from registry.transfer.report import Summary as Summary
