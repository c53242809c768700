"""Networks that are loaded when they are needed."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)
Network_co = TypeVar("Network_co", bound=nn.Module, covariant=True)


class NetworkSource(Protocol[Network_co]):
    """Returns a network, which it loads again if it was removed from memory. Equal sources return the same network."""

    def get(self) -> Network_co: ...


def network_from(source: Network | NetworkSource[Network]) -> Network:
    """The network itself, or that of a source."""
    return source if isinstance(source, nn.Module) else source.get()
