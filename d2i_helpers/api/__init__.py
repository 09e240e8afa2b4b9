"""The API client: HTTP only, an outcome for every record, no database."""

from d2i_helpers.api.client import Client
from d2i_helpers.api.results import Attempt, BatchResult, RecordResult
from d2i_helpers.endpoint import Endpoint, endpoint_for

__all__ = [
    "Attempt",
    "BatchResult",
    "Client",
    "Endpoint",
    "RecordResult",
    "endpoint_for",
]
