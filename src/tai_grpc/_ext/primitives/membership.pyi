# Only for other Cython code: see membership.pxd.
