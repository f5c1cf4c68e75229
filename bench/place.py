"""Puts the checkout before this folder on the import path: both have a module named `registry`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
