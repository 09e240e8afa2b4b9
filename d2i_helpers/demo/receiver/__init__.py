"""The simulated DfE API: a real HTTP server that stores and merges what it receives."""

from d2i_helpers.demo.receiver.serving import Config, running, serve

__all__ = [
    "Config",
    "running",
    "serve",
]
