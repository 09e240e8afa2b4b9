"""From the SSD to documents in the staging table.

`stage` runs the stage, `documents` makes a page of children into documents, `sources` and `filters`
read their rows.
"""
