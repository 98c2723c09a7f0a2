"""A bill of materials as CycloneDX 1.6 (JSON), through cyclonedx-python-lib."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from kobuild._version import __version__
from kobuild.explain.materials import Bill, Material
from kobuild.explain.purls import missing_library, parse_purl

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import LicenseExpression

MEDIA_TYPE = "application/vnd.cyclonedx+json"


def cyclonedx_bytes(bill: Bill) -> bytes:
    """The bill as CycloneDX; the same bill gives the same bytes. Raises ProgramError where the library is missing."""
    try:
        from cyclonedx.output import make_outputter  # noqa: PLC0415  # an extra
        from cyclonedx.schema import OutputFormat, SchemaVersion  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("cyclonedx-python-lib", error) from error
    outputter = make_outputter(_bom(bill), OutputFormat.JSON, SchemaVersion.V1_6)
    return f"{outputter.output_as_string(indent=2)}\n".encode()


def _bom(bill: Bill) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData  # noqa: PLC0415
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.model.tool import ToolRepository  # noqa: PLC0415

    ourselves = Component(name="kobuild", version=__version__, type=ComponentType.APPLICATION)
    image = _image(bill)
    components = [_component(item) for item in (*bill.tools, *([bill.base] if bill.base is not None else []))]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{__version__} {bill!r}"),
        metadata=BomMetaData(component=image, timestamp=bill.created, tools=ToolRepository(components=[ourselves])),
        components=components,
    )
    bom.register_dependency(image, components)
    return bom


def _image(bill: Bill) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType  # noqa: PLC0415
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415

    digest = bill.digest.partition(":")[2]
    return Component(
        name=bill.name,
        version=bill.digest or None,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        purl=parse_purl(bill.purl) if bill.purl else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if bill.digest.startswith("sha256:") else [],
    )


def _license(expression: str) -> LicenseExpression:
    from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression  # noqa: PLC0415

    # A single identifier too: the form for those holds them to the list of CycloneDX's own day.
    return LicenseExpression(expression, acknowledgement=LicenseAcknowledgement.DECLARED)


def _component(material: Material) -> Component:
    from cyclonedx.model import (  # noqa: PLC0415
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        Property,
        XsUri,
    )
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=material.sha256)] if material.sha256 else []
    facts = {"platforms": ", ".join(map(str, material.platforms)), "file": material.filename, "sum": material.note}
    download = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(material.download), hashes=hashes)
    return Component(
        name=material.name,
        version=material.version or None,
        type=ComponentType.APPLICATION if material.filename else ComponentType.CONTAINER,
        bom_ref=material.key,
        purl=parse_purl(material.purl),
        cpe=material.cpe or None,
        licenses=[_license(material.license)] if material.license else [],
        hashes=hashes,
        external_references=[download] if material.download else [],
        properties=[Property(name=f"kobuild:{name}", value=value) for name, value in facts.items() if value],
    )
