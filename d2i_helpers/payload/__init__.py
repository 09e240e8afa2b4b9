"""From raw values of one child to its document: transforms, assembly, canonical form, validation.

Nothing is imported here, so that the simulated receiver, which only validates, starts quickly.
"""
