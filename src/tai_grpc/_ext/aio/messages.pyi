# What it has is for other compiled modules: see the .pxd.
