"""The helper package behind the D2I workbook's notebooks."""

__version__ = "0.1.0"
