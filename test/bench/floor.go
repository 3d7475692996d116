// The minimum cost of any proxy: a program that reads none of the bytes that it passes on. For each request
// it makes the six system calls that move the bytes, and as few epoll calls as possible, from one thread
// without a goroutine. mirrorgate's figures are compared with it, besides nginx's.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// floorSocket is a client's connection or one of the two connections that belong to it.
type floorSocket struct {
	fd int
	// primary and variant are set for a client, and client for a primary; a response of the variant is
	// dropped.
	primary, variant, client *floorSocket
}

type floorServer struct {
	epoll, listener  int
	primary, variant int // ports
	sockets          map[int32]*floorSocket
	buf              [128 << 10]byte
}

// serveFloor takes three arguments: its own port, the primary's and the variant's.
func serveFloor(args []string) error {
	if len(args) != 3 {
		return errors.New("floor needs three ports")
	}
	var ports [3]int
	for i, arg := range args {
		var err error
		if ports[i], err = strconv.Atoi(arg); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	s := &floorServer{primary: ports[1], variant: ports[2], sockets: map[int32]*floorSocket{}}
	var err error
	if s.epoll, err = syscall.EpollCreate1(0); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if s.listener, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err = syscall.Bind(s.listener, loopback(ports[0])); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err = syscall.Listen(s.listener, 128); err != nil {
		return os.NewSyscallError("listen", err)
	}
	if err = s.watch(s.listener, syscall.EPOLLIN); err != nil {
		return err
	}
	return s.run()
}

func loopback(port int) *syscall.SockaddrInet4 {
	return &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

func (s *floorServer) watch(fd int, events uint32) error {
	event := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_ADD, fd, &event))
}

func (s *floorServer) run() error {
	var events [128]syscall.EpollEvent
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(s.epoll), uintptr(unsafe.Pointer(&events)), uintptr(len(events)), ^uintptr(0), 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("epoll_pwait", errno)
		}
		for _, event := range events[:n] {
			if int(event.Fd) == s.listener {
				if err := s.accept(); err != nil {
					return err
				}
			} else if from := s.sockets[event.Fd]; from != nil {
				s.pass(from)
			}
		}
	}
}

func (s *floorServer) accept() error {
	fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("accept4", err)
	}
	client := &floorSocket{fd: fd}
	if client.primary, err = s.connect(s.primary); err != nil {
		return err
	}
	if client.variant, err = s.connect(s.variant); err != nil {
		return err
	}
	client.primary.client = client
	return s.add(client)
}

func (s *floorServer) connect(port int) (*floorSocket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.Connect(fd, loopback(port)); err != nil {
		return nil, fmt.Errorf("connect to %d: %w", port, err)
	}
	to := &floorSocket{fd: fd}
	return to, s.add(to)
}

func (s *floorServer) add(socket *floorSocket) error {
	s.sockets[int32(socket.fd)] = socket
	if err := syscall.SetsockoptInt(socket.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	const edge = 1 << 31 // EPOLLET, which package syscall defines as a negative number
	return s.watch(socket.fd, syscall.EPOLLIN|edge)
}

// pass moves the bytes that have arrived. Requests and responses are small enough to arrive in one piece, and
// to be written in one.
func (s *floorServer) pass(from *floorSocket) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(from.fd), uintptr(unsafe.Pointer(&s.buf)), uintptr(len(s.buf)), syscall.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == syscall.EAGAIN:
	case errno != 0 || n == 0:
		if from.primary != nil {
			s.end(from)
		}
	case from.primary != nil:
		s.send(from.primary, n)
		s.send(from.variant, n)
	case from.client != nil:
		s.send(from.client, n)
	}
}

func (s *floorServer) send(to *floorSocket, n uintptr) {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(to.fd), uintptr(unsafe.Pointer(&s.buf)), n, syscall.MSG_NOSIGNAL, 0, 0)
}

func (s *floorServer) end(client *floorSocket) {
	for _, socket := range []*floorSocket{client, client.primary, client.variant} {
		delete(s.sockets, int32(socket.fd))
		_ = syscall.Close(socket.fd)
	}
}
