"""kobuild mushes upstream tarballs together into a new container image, with no daemon, no root and no container."""

from kobuild._version import __version__
from kobuild.errors import KobuildError

__all__ = ["KobuildError", "__version__"]
