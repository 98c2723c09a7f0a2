"""The first files of a project that uses kobuild: what its folder tells about it, and the files made from that."""
