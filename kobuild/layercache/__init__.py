"""A layer cache in a registry: what one machine has made, others take.

- records: what the registry holds about a recipe, and the proof that it is from who has the key
- claims: what this machine says that it is making
- waiting: how long a machine waits while another one makes a layer
- origin: a layer's bytes, which may be gone or wrong
- shared: the cache itself
"""

from __future__ import annotations

from kobuild.layercache.records import KEY_VARIABLE, Notary
from kobuild.layercache.shared import LayerCache, Mode

__all__ = ["KEY_VARIABLE", "LayerCache", "Mode", "Notary"]
