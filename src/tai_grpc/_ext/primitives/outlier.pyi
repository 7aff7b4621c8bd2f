"""Outlier ejection, for compiled code: see outlier.pxd."""
