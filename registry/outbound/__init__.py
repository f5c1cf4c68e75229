"""The one way out: every HTTP request of ours is sent from here."""
