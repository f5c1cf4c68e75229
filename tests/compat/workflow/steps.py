"""All steps of the workflow in their order: later ones use what earlier ones made."""

from . import deleting, errors, loading, organizing, prompts, registering, searching, training
from .session import STEPS

ORDER = [
    module.__name__.rpartition(".")[2]
    for module in (training, registering, organizing, searching, loading, prompts, errors, deleting)
]


def in_order():
    """Name and step, first to last."""
    return sorted(STEPS.items(), key=lambda item: ORDER.index(item[1].module))
