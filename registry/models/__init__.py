"""Model directories: their format, their signature, saving, loading, registering, and the digests of their files."""

from pathlib import Path

# Files that stand alone: a replica runs them by their path, under the model's own interpreter.
LOADER = Path(__file__).parent / "loader.py"
ENFORCEMENT = Path(__file__).parent / "enforcement.py"
