"""Runs: papermill execution in fresh kernels, run records, ledger, lock, schedules, report.

This module imports nothing, since every kernel of a run imports from this package.
"""
