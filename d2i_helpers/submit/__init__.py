"""From the staging table to the receiver, and the answers back.

`stage` runs the stage, `gates` says what may go where, `endpoint` where that is, `client` sends and
finds an outcome for each record.
"""
