"""Many images on many machines: which jobs there are, which of them have news, and how their results are joined.

- jobs: settings files to jobs, one a platform
- inputs: the files that decide what an image is
- revisions: which files differ from a git revision
- pushed: which images their targets do not hold as settings and lock make them
- join: manifests that were pushed one by one to the index that a single push would have made
"""
