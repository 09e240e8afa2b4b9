"""Can this run succeed? Looked at before anything is read or sent; nothing is left changed.

`stage` runs the stage; each other module looks at one subject.
"""
