package proxyserve

// Certificates of the ports of a Service whose TLS its proxy terminates: from folders, as the kubelet mounts Secrets, and
// read again when they change.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
)

// certificate reads PORT=FOLDER.
func certificate(text string) (port int, folder string, ok bool) {
	number, folder, _ := strings.Cut(text, "=")
	port, err := strconv.Atoi(number)
	return port, folder, err == nil && port > 0 && port < 65536 && folder != ""
}

// portCertificate is the certificate of a port, the last one that could be read.
type portCertificate struct {
	folder  string
	current atomic.Pointer[tls.Certificate]
}

func (c *portCertificate) files() []string {
	return []string{filepath.Join(c.folder, "tls.crt"), filepath.Join(c.folder, "tls.key")}
}

func (c *portCertificate) read() error {
	files := c.files()
	pair, err := tls.LoadX509KeyPair(files[0], files[1])
	if err == nil {
		c.current.Store(&pair)
	}
	return err
}

// readCertificates reads the certificates of the options, each for its port.
func (p *serviceProxy) readCertificates() error {
	var errs []error
	for _, text := range p.opts.Certificates {
		port, folder, _ := certificate(text)
		c := &portCertificate{folder: folder}
		if err := c.read(); err != nil {
			errs = append(errs, fmt.Errorf("--certificate=%s: %w", text, err))
		}
		p.certificates = append(p.certificates, c)
		p.follower.Certificates[port] = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	}
	return errors.Join(errs...)
}

// followCertificates reads certificates that change until ctx ends. One that cannot be read leaves the last one in use.
func (p *serviceProxy) followCertificates(ctx context.Context) {
	watcher, err := config.NewWatcher()
	if err != nil {
		p.log.Error(err, "Changes of certificates will not be noticed")
		return
	}
	var files []string
	for _, c := range p.certificates {
		files = append(files, c.files()...)
	}
	watcher.Run(ctx, nil, func() {
		if err := watcher.Watch(files); err != nil {
			p.log.Error(err, "Changes of some certificates will not be noticed")
		}
		for _, c := range p.certificates {
			if err := c.read(); err != nil {
				p.log.Error(err, "A certificate cannot be read; the last one stays in use", "folder", c.folder)
			}
		}
	})
}

// certified returns the ports that have a certificate.
func (o *Options) certified() map[int]bool {
	ports := map[int]bool{}
	for _, text := range o.Certificates {
		if port, _, ok := certificate(text); ok {
			ports[port] = true
		}
	}
	return ports
}
