"""From the SSD to documents in the staging table.

`stage` runs the stage. `unchanged` finds who has to be read, `sources` and `filters` read their
rows (`deployed_tables` says what is there to be read, `page_queries` with which statements),
`documents` makes a page of children into documents.
"""
