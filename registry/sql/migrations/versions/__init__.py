"""One file for each revision, `v<number>_<what>.py`; a released revision never changes."""
