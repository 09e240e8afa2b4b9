"""The folder that an authority works in: laid out by `d2i new`, renewed by `d2i upgrade`.

What is laid out travels in the wheel, in ``files/`` of this package. In a clone it lies where
people look for it, and a clone needs no workbook: it is one.
"""

from d2i_helpers.workbook.layout import LaidOut, lay_out
from d2i_helpers.workbook.manifest import Manifest, read_manifest
from d2i_helpers.workbook.profiles import Answers, make_answers
from d2i_helpers.workbook.upgrade import Change, apply, plan_upgrade
from d2i_helpers.workbook.versions import OtherVersion, other_version

__all__ = [
    "Answers",
    "Change",
    "LaidOut",
    "Manifest",
    "OtherVersion",
    "apply",
    "lay_out",
    "make_answers",
    "other_version",
    "plan_upgrade",
    "read_manifest",
]
