"""One image for one platform, and a set of them under an index."""

from __future__ import annotations

from kobuild.frozen import frozen
from kobuild.image.blobs import Blob, BytesSource, Layer
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform


@frozen
class Image:
    """An immutable image; `layers` are in the manifest's order, the base's first."""

    manifest: Manifest
    config: ImageConfig
    layers: tuple[Layer, ...]

    @classmethod
    def empty(cls, platform: Platform, family: Family = Family.OCI) -> Image:
        """`scratch`: an image with no layers."""
        config = ImageConfig.empty(platform)
        descriptor = Descriptor(family.config, config.digest, len(config.raw))
        manifest = Manifest.build(media_type=family.manifest, config=descriptor, layers=(), annotations={})
        return cls(manifest, config, ())

    @property
    def image_id(self) -> Digest:
        """The digest of the config."""
        return self.config.digest

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return self.config.platform

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's descriptor with the platform, as an index lists it."""
        plain = self.manifest.descriptor
        return Descriptor(plain.media_type, plain.digest, plain.size, platform=self.platform)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob that the manifest names, layers first, each digest once."""
        config = Blob(self.manifest.config, BytesSource(self.config.raw))
        unique = {blob.descriptor.digest: blob for blob in (*self.layers, config)}
        return tuple(unique.values())


@frozen
class Carried:
    """A manifest of the base's index that goes along as it is: a platform that is not built, or a word about one."""

    descriptor: Descriptor
    """As the index lists it."""
    manifest: Manifest
    blobs: tuple[Blob, ...]
    """Every blob that the manifest names, each digest once."""


@frozen
class ImageSet:
    """What one build makes: one image, or several under an index, one a platform."""

    images: tuple[Image, ...]
    index: Index | None
    """None for a single image that was not asked for as an index."""
    carried: tuple[Carried, ...] = ()
    """What the index lists beside the images."""

    @property
    def members(self) -> tuple[Image | Carried, ...]:
        """All that has a manifest."""
        return (*self.images, *self.carried)

    @property
    def root(self) -> Manifest | Index:
        """What a tag points at."""
        return self.index if self.index is not None else self.images[0].manifest

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of what a tag points at."""
        return self.index.descriptor if self.index is not None else self.images[0].descriptor
