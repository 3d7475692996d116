package config

// Loading a file with its certificates, and checking whether a running proxy can change to it.

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxFile is the largest size of a file in bytes.
const maxFile = 16 << 20

// Load reads a file and the certificates that it names. Errors are *Problems, unless the file itself cannot
// be read.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(data)
	var found []Problem
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if l.CertFile == "" {
			continue
		}
		for _, file := range []*string{&l.CertFile, &l.KeyFile} {
			if !filepath.IsAbs(*file) {
				*file = filepath.Join(filepath.Dir(path), *file)
			}
		}
		pair, raw, err := keyPair(l.CertFile, l.KeyFile)
		if err != nil {
			at := "listeners[" + strconv.Itoa(i) + "].tls"
			found = append(found, Problem{Line: c.lines.line(at), Path: at, Message: err.Error()})
			continue
		}
		sum.Write(raw)
		l.Certificate = pair
	}
	found = append(found, c.authorities(sum)...)
	sum.Sum(c.digest[:0])
	if len(found) > 0 {
		return nil, problems(path, found)
	}
	return c, nil
}

// authorities reads the files with the authorities that are trusted for backends, and adds them to the digest.
func (c *Config) authorities(digest io.Writer) (found []Problem) {
	for _, p := range c.Table.Ports {
		if p.TLS == nil || p.TLS.CAFile == "" {
			continue
		}
		at := fmt.Sprintf("services[%s][%d].tls.caFile", p.Service, p.Number)
		if !filepath.IsAbs(p.TLS.CAFile) {
			p.TLS.CAFile = filepath.Join(filepath.Dir(c.name), p.TLS.CAFile)
		}
		raw, err := readFile(p.TLS.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(raw) {
			err = fmt.Errorf("%s: has no certificate in PEM", p.TLS.CAFile)
		}
		if err != nil {
			found = append(found, Problem{Line: c.lines.line(at), Path: at, Message: err.Error()})
			continue
		}
		p.TLS.CA = string(raw)
		_, _ = digest.Write(raw) // a hash takes everything
	}
	return found
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: has %d bytes, must have at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

func keyPair(certFile, keyFile string) (pair *tls.Certificate, raw []byte, err error) {
	cert, err := readFile(certFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := readFile(keyFile)
	if err != nil {
		return nil, nil, err
	}
	loaded, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certFile %s and keyFile %s: %w", certFile, keyFile, err)
	}
	return &loaded, append(cert, key...), nil
}

// Same reports whether two files and their certificates are identical, byte for byte.
func (c *Config) Same(other *Config) bool { return c.digest == other.digest }

// Follows checks whether c can replace before while the proxy runs. Listeners can be added and removed, and
// rules, services and certificates can change; other changes need a restart. Errors are *Problems.
func (c *Config) Follows(before *Config) error {
	var found []Problem
	differs := func(at string, was any) {
		found = append(found, Problem{Line: c.lines.line(at), Path: at, Message: fmt.Sprintf("cannot change without a restart; was %v", was)})
	}
	for i, l := range c.Listeners {
		at := "listeners[" + strconv.Itoa(i) + "]"
		for _, was := range before.Listeners {
			switch {
			case was.Address != l.Address:
			case was.TCP != l.TCP && was.Name != l.Name: // a new listener takes over the address
			case was.TCP != l.TCP:
				found = append(found, Problem{Line: c.lines.line(at), Path: at, Message: "must have another name than the listener that it replaces: only one of them forwards TCP connections"})
			case was.Name != l.Name:
				differs(at+".name", was.Name+" at "+was.Address)
			case was.H2C != l.H2C:
				differs(at+".h2c", was.H2C)
			case (was.CertFile == "") != (l.CertFile == ""):
				differs(at+".tls", cmp.Or(was.CertFile, "off"))
			case was.MinVersion != l.MinVersion:
				differs(at+".tls.minVersion", tls.VersionName(cmp.Or(was.MinVersion, tls.VersionTLS12)))
			case !slices.Equal(was.ALPN, l.ALPN):
				differs(at+".tls.alpn", cmp.Or(strings.Join(was.ALPN, ", "), "h2, http/1.1"))
			}
		}
	}
	if c.Admin != before.Admin {
		differs("admin.address", cmp.Or(before.Admin, "off"))
	}
	if c.AccessLog != before.AccessLog {
		differs("accessLog", cmp.Or(strings.TrimSuffix(before.AccessLog.Format+" to "+before.AccessLog.Path, " to "), "off"))
	}
	if c.PerRule != before.PerRule {
		differs("metrics.perRule", before.PerRule)
	}
	if c.HideReason != before.HideReason {
		differs("reasonHeader", !before.HideReason)
	}
	if c.Limits != before.Limits {
		differs("limits", before.Limits)
	}
	if len(found) > 0 {
		return problems(c.name, found)
	}
	return nil
}

// Files returns the files that make up the configuration: the file itself, certificates, keys and authorities.
func (c *Config) Files() []string {
	files := []string{c.name}
	for _, l := range c.Listeners {
		if l.CertFile != "" {
			files = append(files, l.CertFile, l.KeyFile)
		}
	}
	for _, p := range c.Table.Ports {
		if p.TLS != nil && p.TLS.CAFile != "" {
			files = append(files, p.TLS.CAFile)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}
