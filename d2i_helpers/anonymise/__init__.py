"""The anonymised twin of the staging table: pseudonyms drawn under a key that is kept apart.

`stage` runs the stage, `field_rules` holds what stands for a value, `key` the key.
"""
