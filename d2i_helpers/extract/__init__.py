"""From the SSD to documents in the staging table.

`stage` runs the stage. `unchanged` finds who has to be read, `sources` and `filters` read their
rows, `documents` makes a page of children into documents.
"""
