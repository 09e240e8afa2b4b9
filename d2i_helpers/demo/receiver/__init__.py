"""The simulated DfE API: a real HTTP server that keeps and merges what it got."""

from d2i_helpers.demo.receiver.serving import Config, running, serve

__all__ = [
    "Config",
    "running",
    "serve",
]
