"""HTTP bodies to payloads and back: one file a protocol, and nothing else here."""
