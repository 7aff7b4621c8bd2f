# Only for other Cython code: see window.pxd.
