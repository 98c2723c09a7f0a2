"""Container engines of the user's own, by their command lines: docker, podman and buildah.

kobuild needs none to build, push or check an image. They are asked only to run a program inside one, for
`kobuild verify --run`. Each takes the image as a `docker save` archive, so that no registry is needed.
"""
