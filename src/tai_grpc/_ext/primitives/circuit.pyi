# Only for other Cython code: see circuit.pxd.
