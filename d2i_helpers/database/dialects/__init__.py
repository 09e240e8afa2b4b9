"""Where the databases differ: a module for each, with the reason beside each difference.

`Portable` is what the project does anywhere. The class of a database says only what has to be
otherwise there. No other module asks which database it is: it takes the class with `of` or `named`,
and calls it. A database that has no class of its own is treated as portable.

To add a database: write a module here with a class, mark that with `@register`, and give it its
errors in `database/messages.py`. SQLAlchemy has to know the database under the same name.
"""

from importlib import import_module
from pkgutil import iter_modules

from d2i_helpers.database.dialects.column_types import HASH, Characters, RowNumber
from d2i_helpers.database.dialects.odbc_types import COLUMN_TYPES
from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.database.dialects.registry import (
    login_named,
    named,
    of,
    of_library,
    register,
    registered,
    sqlalchemy_dialect,
)

for _module in iter_modules(__path__):  # each class is known once its module is loaded
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "COLUMN_TYPES",
    "HASH",
    "Characters",
    "Portable",
    "RowNumber",
    "login_named",
    "named",
    "of",
    "of_library",
    "register",
    "registered",
    "sqlalchemy_dialect",
]
