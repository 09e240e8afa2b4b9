"""Check whether a run can succeed, before anything is read or sent. Nothing is changed for good.

`stage` runs the stage; each other module checks one subject.
"""
