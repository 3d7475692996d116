// Addresses and the listeners behind them. They are two types because a port can change between rules and
// passing connections through while its address stays open.

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// socket accepts the connections of an address. Its listener can be replaced while it is open.
type socket struct {
	net.Listener
	server *Server
	slots  *slots
	wg     sync.WaitGroup // for accept

	mu      sync.Mutex
	current *listener
}

func (s *Server) listen(address string) (*socket, error) {
	var lc net.ListenConfig
	inner, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return &socket{Listener: inner, server: s, slots: s.slots}, nil
}

// assign gives all later connections to a listener.
func (s *socket) assign(to *listener) {
	s.mu.Lock()
	first := s.current == nil
	s.current = to
	s.mu.Unlock()
	if first {
		s.wg.Go(s.accept)
	}
}

// assignedTo reports whether a listener gets the connections that are accepted now.
func (s *socket) assignedTo(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == l
}

// slots bounds the clients' connections over all sockets. Every connection takes one slot.
type slots struct {
	free chan struct{}
	open atomic.Int64
}

// accept takes connections while there are slots for them.
func (s *socket) accept() {
	pause := time.Millisecond
	for {
		select {
		case s.slots.free <- struct{}{}:
		default:
			s.server.full()
			s.slots.free <- struct{}{}
		}
		conn, err := s.Accept()
		if err != nil {
			<-s.slots.free
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Most likely there are no descriptors left; open connections will close.
			s.server.notAccepted(s.Addr().String(), err)
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		s.slots.open.Add(1)
		s.give(&slotted{TCPConn: conn.(*net.TCPConn), slots: s.slots})
	}
}

// give hands a connection to the current listener.
func (s *socket) give(conn *slotted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.current
	l.conns.Go(func() {
		if !l.config.Load().ProxyProtocol || s.introduced(l, conn) {
			l.terminator.serve(conn)
		}
	})
}

// introduced reads the header of PROXY protocol, and closes the connection if it has none.
func (s *socket) introduced(l *listener, conn *slotted) bool {
	client, err := readProxyHeader(conn.TCPConn, s.server.options.Limits.HeadTimeout)
	if err != nil {
		s.server.notIntroduced(l.config.Load().Name, conn.RemoteAddr().String(), err)
		_ = conn.Close()
		return false
	}
	if client.IsValid() {
		conn.client = net.TCPAddrFromAddrPort(client)
	}
	return true
}

// terminator serves connections in a protocol.
type terminator interface {
	start()
	// serve serves a connection until it ends or is handed over.
	serve(conn *slotted)
	// drain asks clients to end their connections, as far as the protocol can.
	drain()
	// retire ends each connection after its current exchange.
	retire()
	// wait waits until all connections have ended.
	wait()
	// kill ends all connections at once.
	kill()
}

// listener serves an address, and the connections that it accepted there.
type listener struct {
	socket     *socket
	config     atomic.Pointer[Listener]
	terminator terminator
	conns      sync.WaitGroup // for connections that were not handed over
	yielding   sync.WaitGroup
	once       sync.Once
}

func (s *Server) listener(at *socket, config *Listener) *listener {
	l := &listener{socket: at}
	l.config.Store(config)
	if config.TCP {
		l.terminator = newPassthrough(s, &l.config)
	} else {
		l.terminator = newWeb(s, &l.config, at.Addr())
	}
	return l
}

// differs reports whether a config needs another listener, to which the socket can be assigned.
func (l *listener) differs(config *Listener) bool {
	return l.config.Load().TCP != config.TCP
}

// compatible returns an error if a config must not follow at an address that stays open.
func (l *listener) compatible(config *Listener) error {
	old := l.config.Load()
	if l.differs(config) {
		if old.Name == config.Name {
			return fmt.Errorf("listener %s: a listener that passes TCP through at %s needs another name than one with rules", config.Name, config.Address)
		}
		return nil
	}
	if (old.Certificate == nil) != (config.Certificate == nil) || old.H2C != config.H2C || old.Name != config.Name {
		return fmt.Errorf("listener %s: name, TLS and h2c of %s cannot change while it is open", config.Name, config.Address)
	}
	if old.MinVersion != config.MinVersion || !slices.Equal(old.ALPN, config.ALPN) {
		return fmt.Errorf("listener %s: the versions of TLS and HTTP cannot change while it is open", config.Name)
	}
	return nil
}

func (l *listener) start() {
	l.terminator.start()
	l.socket.assign(l)
}

func (l *listener) drain() { l.terminator.drain() }

// yield leaves the socket to another listener. It asks clients to end their connections, as far as the
// protocol can, and closes none between two requests, because its client has had no notice.
func (l *listener) yield() {
	l.drain()
	l.yielding.Go(func() {
		l.conns.Wait()
		l.retire()
	})
}

// retire stops listening and ends each connection after its current exchange.
func (l *listener) retire() {
	l.once.Do(func() {
		if l.socket.assignedTo(l) {
			_ = l.socket.Close()
		}
		l.terminator.retire()
	})
}

func (l *listener) wait() {
	if l.socket.assignedTo(l) {
		l.socket.wg.Wait()
	}
	l.yielding.Wait()
	l.conns.Wait()
	l.terminator.wait()
}

// kill ends all connections at once.
func (l *listener) kill() {
	l.retire()
	l.terminator.kill()
}

// slotted is a connection that frees its slot when it is closed. It embeds the concrete type because the
// terminators use its system calls.
type slotted struct {
	*net.TCPConn
	slots *slots
	once  sync.Once
	// client is the address that PROXY protocol gave, nil without it.
	client net.Addr
}

// RemoteAddr implements net.Conn.
func (c *slotted) RemoteAddr() net.Addr {
	if c.client != nil {
		return c.client
	}
	return c.TCPConn.RemoteAddr()
}

// Close implements net.Conn.
func (c *slotted) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		c.slots.open.Add(-1)
		<-c.slots.free
	})
	return err
}
