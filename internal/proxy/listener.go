package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// socket is an address that is listened at. Its listener may be replaced by another one, while it is
// open.
type socket struct {
	net.Listener
	slots *slots
	wg    sync.WaitGroup // of accept

	mu      sync.Mutex
	current *listener
}

func (s *Server) listen(address string) (*socket, error) {
	var lc net.ListenConfig
	inner, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return &socket{Listener: inner, slots: s.slots}, nil
}

// lead makes a listener take what comes in from now on.
func (s *socket) lead(to *listener) {
	s.mu.Lock()
	first := s.current == nil
	s.current = to
	s.mu.Unlock()
	if first {
		s.wg.Go(s.accept)
	}
}

func (s *socket) leadsTo(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == l
}

// slots are what clients' connections take, over all sockets.
type slots struct {
	free chan struct{}
	open atomic.Int64
}

// accept takes connections while there are slots for them.
func (s *socket) accept() {
	pause := time.Millisecond
	for {
		s.slots.free <- struct{}{}
		conn, err := s.Accept()
		if err != nil {
			<-s.slots.free
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: what is open will close.
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		s.slots.open.Add(1)
		s.give(&slotted{TCPConn: conn.(*net.TCPConn), slots: s.slots})
	}
}

func (s *socket) give(conn *slotted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.current
	l.conns.Go(func() { l.terminator.serve(conn) })
}

// terminator serves connections.
type terminator interface {
	start()
	// serve serves one until it ends, or hands it over.
	serve(conn *slotted)
	// drain makes the connections end soon, as far as their protocol can ask for it.
	drain()
	// retire makes them end after the exchange they are in.
	retire()
	// wait returns when all have ended.
	wait()
	// kill ends them at once.
	kill()
}

// listener is what is at an address, and everything that came in there while it was.
type listener struct {
	socket     *socket
	config     atomic.Pointer[Listener]
	terminator terminator
	conns      sync.WaitGroup // that have not been handed over
	yielding   sync.WaitGroup
	once       sync.Once
}

func (s *Server) listener(at *socket, config *Listener) *listener {
	l := &listener{socket: at}
	l.config.Store(config)
	if config.TCP {
		l.terminator = newPassthrough(s, config.Name)
	} else {
		l.terminator = newWeb(s, &l.config, at.Addr())
	}
	return l
}

// differs says whether a config takes another listener: a socket can change hands.
func (l *listener) differs(config *Listener) bool {
	old := l.config.Load()
	return old.TCP != config.TCP
}

// compatible says whether a config may follow at an address that stays open.
func (l *listener) compatible(config *Listener) error {
	old := l.config.Load()
	if old.TCP != config.TCP {
		if old.Name == config.Name {
			return fmt.Errorf("listener %s: what passes connections on at %s needs another name than what looks into them", config.Name, config.Address)
		}
		return nil
	}
	if (old.Certificate == nil) != (config.Certificate == nil) || old.H2C != config.H2C || old.Name != config.Name {
		return fmt.Errorf("listener %s: name, TLS and h2c of %s cannot change while it is open", config.Name, config.Address)
	}
	return nil
}

func (l *listener) start() {
	l.terminator.start()
	l.socket.lead(l)
}

func (l *listener) drain() { l.terminator.drain() }

// yield lets another listener have the socket. Connections end where their protocol can ask for it,
// none is closed between two requests: its client has had no notice.
func (l *listener) yield() {
	l.drain()
	l.yielding.Go(func() {
		l.conns.Wait()
		l.retire()
	})
}

// retire stops listening; connections end after the exchange they are in.
func (l *listener) retire() {
	l.once.Do(func() {
		if l.socket.leadsTo(l) {
			_ = l.socket.Close()
		}
		l.terminator.retire()
	})
}

func (l *listener) wait() {
	if l.socket.leadsTo(l) {
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

// slotted gives its slot back when it is closed.
//
// It embeds the concrete type, whose system calls the terminators use.
type slotted struct {
	*net.TCPConn
	slots *slots
	once  sync.Once
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
