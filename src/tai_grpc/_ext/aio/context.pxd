"""The context that a handler is given: grpc.aio's names. See context.pyx."""

from tai_grpc._ext.aio.served cimport ServedCall


cdef class ServicerContext(ServedCall):
    pass
