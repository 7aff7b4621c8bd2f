# Only for other Cython code: see hdr.pxd.
