"""What is in an image and where from: trees, differences, news, bills of materials; nothing here changes an image.

imagetree       an image as a tree of layers (`inspect`)
imagediff       two images or locks, compared (`diff`)
├── overlay     what several layers come to, file by file
├── listing     the files of one layer: from its table of contents (`layers.toc`), or else from its tar
└── origins     what made each layer
outdated        what could move (`outdated`)
sbom            bills of materials (`sbom`): materials (the facts), purls, spdxbom, cyclonedxbom
provenance      how an image was made (`provenance`)
documents       what all of these become when they are attached to an image

Modules that end with `view`, and `diffmarkdown`, say it to a person or a machine.
"""
