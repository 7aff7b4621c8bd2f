# Only for other Cython code: see blocks.pxd.
