# Its functions are for other compiled modules: see the .pxd.
