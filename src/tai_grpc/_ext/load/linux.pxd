"""What is used of Linux and of POSIX: epoll, timers and events as descriptors, sockets, mutexes."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport timespec

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int descriptor, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int at_most, int timeout_ms)
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const int EPOLL_CTL_MOD
    const uint32_t EPOLLIN
    const uint32_t EPOLLOUT
    const uint32_t EPOLLERR
    const uint32_t EPOLLHUP
    const uint32_t EPOLLET

cdef extern from "sys/timerfd.h" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int descriptor, int flags, const itimerspec *when, itimerspec *before)
    const int TFD_CLOEXEC
    const int TFD_NONBLOCK
    const int TFD_TIMER_ABSTIME

cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned int value, int flags)
    int eventfd_read(int descriptor, uint64_t *value)
    int eventfd_write(int descriptor, uint64_t value)
    const int EFD_CLOEXEC
    const int EFD_NONBLOCK

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        sa_family_t ss_family
    int socket(int family, int kind, int protocol)
    int connect(int descriptor, const sockaddr *address, socklen_t size)
    int getsockopt(int descriptor, int level, int name, void *value, socklen_t *size)
    int setsockopt(int descriptor, int level, int name, const void *value, socklen_t size)
    ssize_t recv(int descriptor, void *data, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    const int AF_INET
    const int AF_INET6
    const int AF_UNIX
    const int SOCK_STREAM
    const int SOCK_NONBLOCK
    const int SOCK_CLOEXEC
    const int SOL_SOCKET
    const int SO_ERROR
    const int MSG_NOSIGNAL

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct in6_addr:
        pass
    struct sockaddr_in6:
        unsigned short sin6_port
        in6_addr sin6_addr
    const int IPPROTO_TCP

cdef extern from "netinet/tcp.h" nogil:
    const int TCP_NODELAY

cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char *text, void *address)
    unsigned short htons(unsigned short number)

cdef extern from "sys/un.h" nogil:
    struct sockaddr_un:
        char sun_path[108]

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_condattr_init(pthread_condattr_t *attributes)
    int pthread_condattr_setclock(pthread_condattr_t *attributes, int clock)
    int pthread_condattr_destroy(pthread_condattr_t *attributes)
    int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
    int pthread_cond_destroy(pthread_cond_t *condition)
    int pthread_cond_broadcast(pthread_cond_t *condition)
    int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const timespec *until)


cdef inline timespec timespec_of(int64_t ns) noexcept nogil:
    cdef timespec time
    time.tv_sec = ns // 1_000_000_000
    time.tv_nsec = ns % 1_000_000_000
    return time
