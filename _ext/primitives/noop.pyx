# cython: language_level=3, freethreading_compatible=True
"""What a compiled method costs when it does nothing: the unit in which bench/micro measures the others.

It is built with them, so that the same compiler and flags made both, wherever they are measured.
"""


cdef class Noop:
    def nothing(self):
        """As a method without arguments."""

    def one(self, argument):
        """As a method with one argument."""

    def optional(self, n=1):
        """As a method with one argument that may be left out."""

    def three(self, first, second, third):
        """As a method with three arguments."""
