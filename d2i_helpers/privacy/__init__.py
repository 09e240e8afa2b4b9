"""What keeps identities and secrets out of notebooks, records, logs and messages."""
