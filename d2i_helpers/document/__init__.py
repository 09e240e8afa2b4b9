"""From driver values and source rows to one child's document, its canonical form and its checks.

Nothing here knows a database, and no field is known by name: the specification names them.
"""
