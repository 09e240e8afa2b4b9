"""Runs: papermill execution in fresh kernels, run records, ledger, lock, schedules, report.

Nothing is imported here: every kernel of a run imports from this package.
"""
