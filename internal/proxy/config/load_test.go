package config

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t testing.TB, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// certificate writes a new self-signed certificate and its key.
func certificate(t testing.TB, certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestLoadCertificates(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	file := write(t, filepath.Join(dir, "proxy.yaml"), strings.Replace(small, "  rules:", "  tls: {certFile: a.crt, keyFile: "+key+"}\n  rules:", 1))

	_, err := Load(file)
	require.EqualError(t, err, file+":4: listeners[0].tls: stat "+crt+": no such file or directory")

	certificate(t, crt, key)
	c, err := Load(file)
	require.NoError(t, err)
	assert.Equal(t, []string{"localhost"}, c.Listeners[0].Certificate.Leaf.DNSNames)
	assert.Equal(t, []string{crt, key, file}, c.Files())

	again, err := Load(file)
	require.NoError(t, err)
	assert.True(t, c.Same(again))

	certificate(t, crt, key)
	renewed, err := Load(file)
	require.NoError(t, err)
	assert.False(t, c.Same(renewed))
	require.NoError(t, renewed.Follows(c))
	assert.NotEqual(t, c.Listeners[0].Certificate.Leaf.SerialNumber, renewed.Listeners[0].Certificate.Leaf.SerialNumber)

	certificate(t, crt, filepath.Join(dir, "other.key"))
	_, err = Load(file)
	assert.ErrorContains(t, err, file+":4: listeners[0].tls: certFile "+crt+" and keyFile "+key+": tls: private key does not match public key")
}

func TestLoadFails(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Load(dir)
	require.Error(t, err)
	huge := write(t, filepath.Join(dir, "huge"), "")
	require.NoError(t, os.Truncate(huge, maxFile+1))
	_, err = Load(huge)
	assert.EqualError(t, err, huge+": has 16777217 bytes, must have at most 16777216")
}

func TestFollows(t *testing.T) {
	parse := func(text string) *Config {
		c, err := Parse("f", []byte(text))
		require.NoError(t, err)
		return c
	}
	before := parse(small)
	require.NoError(t, parse(strings.ReplaceAll(small, "percent: 25", "percent: 50")).Follows(before))
	require.NoError(t, parse(strings.Replace(small, ":8000", ":8001", 1)).Follows(before))
	_, services, _ := strings.Cut(small, "services:")
	through := "listeners: [{address: '127.0.0.1:8000', %s tcp: {name: httpbin-v1, port: 80}}]\nservices:" + services
	require.NoError(t, parse(fmt.Sprintf(through, "name: tcp,")).Follows(before))
	require.NoError(t, before.Follows(parse(fmt.Sprintf(through, "name: tcp,"))))
	for text, want := range map[string]string{
		fmt.Sprintf(through, ""): `f:1: listeners[0]: must have another name than the listener that it replaces: only one of them forwards TCP connections`,
		strings.Replace(small, "- address", "- name: web\n  address", 1):                    `f:3: listeners[0].name: cannot change without a restart; was 127.0.0.1:8000 at 127.0.0.1:8000`,
		strings.Replace(small, "  rules:", "  h2c: false\n  rules:", 1):                     `f:4: listeners[0].h2c: cannot change without a restart; was true`,
		strings.Replace(small, "  rules:", "  tls: {certFile: a, keyFile: b}\n  rules:", 1): `f:3: listeners[0].h2c: cannot change without a restart; was true`,
		small + "admin: {address: ':9090'}\naccessLog: {}\nlimits: {headers: 3}\n": `f:13: admin.address: cannot change without a restart; was off
f:14: accessLog: cannot change without a restart; was off
f:15: limits: cannot change without a restart; was {headerBytes: 65536, headers: 128, targetBytes: 16384, headerTimeout: 10s, idleTimeout: 1m0s, bodyTimeout: 1m0s, backendTimeout: 1m0s, backendIdleTimeout: 55s, halfClose: false, connections: 65536, variantConnects: 250}`,
	} {
		assert.EqualError(t, parse(text).Follows(before), want)
	}
}

// TestWatchOthers changes files that nobody named, beside those that are watched, all the time: no callback comes
// of it, and none is delayed.
func TestWatchOthers(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "proxy.yaml"), "1")
	w, err := NewWatcher()
	require.NoError(t, err)
	require.NoError(t, w.Watch([]string{file}))
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int32
	done, seen := make(chan struct{}, 2), make(chan struct{}, 100)
	go func() {
		w.Run(ctx, nil, func() {
			calls.Add(1)
			seen <- struct{}{}
		})
		done <- struct{}{}
	}()
	<-seen // at the start
	go func() {
		for ctx.Err() == nil {
			_ = os.WriteFile(filepath.Join(dir, "access.log"), []byte("line"), 0o600)
			_ = os.Rename(filepath.Join(dir, "access.log"), filepath.Join(dir, "access.log.1"))
		}
		done <- struct{}{}
	}()
	for range 3 {
		<-time.After(4 * quietPeriod)
		before := calls.Load()
		write(t, file, "2")
		<-seen
		assert.Equal(t, before+1, calls.Load())
	}
	cancel()
	<-done
	<-done
}

// TestWatchBusy changes a file again and again: the callback comes nevertheless.
func TestWatchBusy(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "proxy.yaml"), "1")
	w, err := NewWatcher()
	require.NoError(t, err)
	require.NoError(t, w.Watch([]string{file}))
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, nil, func() { seen <- struct{}{} })
	}()
	<-seen
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = os.WriteFile(file, []byte("line"), 0o600)
			<-time.After(quietPeriod / 10)
		}
	}()
	select {
	case <-seen:
	case <-time.After(20 * time.Second):
		assert.Fail(t, "changes without end keep the callback away")
	}
	cancel()
	<-done
	<-ended
}

// TestWatch changes files in place, by rename and by a symbolic link.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	// The layout of a ConfigMap by kubelet: config.yaml -> ..data/config.yaml, ..data -> ..1.
	mount := filepath.Join(dir, "mount")
	for _, generation := range []string{"..1", "..2"} {
		require.NoError(t, os.MkdirAll(filepath.Join(mount, generation), 0o700))
		write(t, filepath.Join(mount, generation, "config.yaml"), generation)
	}
	require.NoError(t, os.Symlink("..1", filepath.Join(mount, "..data")))
	file := filepath.Join(mount, "config.yaml")
	require.NoError(t, os.Symlink("..data/config.yaml", file))
	plain := write(t, filepath.Join(dir, "plain"), "0")

	w, err := NewWatcher()
	require.NoError(t, err)
	require.NoError(t, w.Watch([]string{file, plain}))
	require.Error(t, w.Watch([]string{filepath.Join(dir, "no", "folder")}))
	ctx, cancel := context.WithCancel(t.Context())
	seen, poke, done := make(chan string), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, poke, func() {
			a, _ := os.ReadFile(file)
			b, _ := os.ReadFile(plain)
			if err := w.Watch([]string{file}); err != nil {
				t.Error(err)
			}
			seen <- string(a) + " " + string(b)
		})
	}()
	// A change may be seen before it is complete. Then it is seen again.
	sees := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-time.After(20 * time.Second):
				require.FailNow(t, "the change was not seen", want)
			}
		}
	}
	sees("..1 0")
	write(t, plain, "1") // in place
	sees("..1 1")
	require.NoError(t, os.Rename(write(t, filepath.Join(dir, "new"), "2"), plain)) // as editors do
	sees("..1 2")
	require.NoError(t, os.Remove(plain))
	sees("..1 ")
	write(t, plain, "3")
	sees("..1 3")
	require.NoError(t, os.Symlink("..2", filepath.Join(mount, "..tmp")))
	require.NoError(t, os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")))
	require.NoError(t, os.RemoveAll(filepath.Join(mount, "..1")))
	sees("..2 3")
	write(t, filepath.Join(mount, "..2", "config.yaml"), "in the new folder")
	sees("in the new folder 3")
	poke <- struct{}{}
	sees("in the new folder 3")
	cancel()
	for {
		select {
		case <-seen:
		case <-done:
			return
		}
	}
}

// The authorities of backends are part of the configuration: a change of their file is one.
func TestLoadAuthorities(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	const table = `listeners: [{address: "127.0.0.1:8000", rules: [{backendRefs: [{name: web, port: 443}]}]}]
services:
  web:
    443:
      tls: {caFile: ca.crt, hostname: web.shop}
      endpoints: ["127.0.0.1:9001"]
`
	file := write(t, filepath.Join(dir, "proxy.yaml"), table)
	at := file + ":5: services[web][443].tls.caFile: "
	_, err := Load(file)
	require.EqualError(t, err, at+"stat "+ca+": no such file or directory")
	write(t, ca, "none")
	_, err = Load(file)
	require.EqualError(t, err, at+ca+": has no certificate in PEM")

	certificate(t, ca, filepath.Join(dir, "key"))
	first, err := Load(file)
	require.NoError(t, err)
	assert.Equal(t, []string{ca, file}, first.Files())
	assert.Contains(t, first.Table.Ports[0].TLS.CA, "BEGIN CERTIFICATE")
	certificate(t, ca, filepath.Join(dir, "key"))
	second, err := Load(file)
	require.NoError(t, err)
	assert.False(t, second.Same(first))
	require.NoError(t, second.Follows(first))

	for settings, says := range map[string]string{
		"{hostname: web.shop}":                 "tls: must have caFile, or wellKnownCACertificates: System",
		"{caFile: ca.crt}":                     `tls.hostname: "": must be the name of a host, as the backend's certificate has it`,
		"{caFile: ca.crt, hostname: '*.shop'}": `tls.hostname: "*.shop": must be the name of a host, as the backend's certificate has it`,
		"{caFile: ca.crt, wellKnownCACertificates: System, hostname: a}":                `tls.wellKnownCACertificates: "System": must not be beside caFile`,
		"{wellKnownCACertificates: Mozilla, hostname: a}":                               `tls.wellKnownCACertificates: "Mozilla": must be System`,
		"{caFile: ca.crt, hostname: a, subjectAltNames: [{hostname: a}]}":               `tls.subjectAltNames[0].type: "": must be Hostname or URI`,
		"{caFile: ca.crt, hostname: a, subjectAltNames: [{type: URI, uri: a}]}":         `tls.subjectAltNames[0].uri: "a": must be an absolute URI, like spiffe://cluster.local/ns/shop/sa/web, and stand alone`,
		"{caFile: ca.crt, hostname: a, subjectAltNames: [{type: Hostname, uri: 'a:'}]}": `tls.subjectAltNames[0].hostname: "": must be the name of a host, which may begin with *., and stand alone`,
	} {
		_, err := Load(write(t, file, strings.Replace(table, "{caFile: ca.crt, hostname: web.shop}", settings, 1)))
		assert.EqualError(t, err, file+":5: services[web][443]."+says, settings)
	}
}
