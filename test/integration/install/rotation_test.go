package install

// Certificates that change every few seconds while routes are written.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

var rotating = flag.Duration("rotating", 10*time.Second, "how long certificates rotate under writes, in each mode")

const (
	// perSecond is the number of routes written per second.
	perSecond = 200
	// short makes a leaf rotate every six seconds and the CA every 24. A renewal has three seconds, on a
	// machine that may be busy.
	short = "9s"
	// long lasts until another replica leads after the leader, which makes the certificates, has ended.
	long = "1m"
)

// renewal returns a function that waits until every replica serves a different certificate than now.
func renewal(t *testing.T, servers ...*harness.Server) func() {
	t.Helper()
	before := map[*harness.Server]float64{}
	for _, s := range servers {
		before[s] = s.Metric(t, "mirrorgate_certificate_renewals_total")
	}
	return func() {
		t.Helper()
		for s, n := range before {
			harness.Eventually(t, func() bool { return s.Metric(t, "mirrorgate_certificate_renewals_total") > n }, "the replica does not renew its certificate")
		}
	}
}

// load is the traffic that rotations must not disturb: writes and new connections. The API server keeps its
// own connections open for long, so the test connects too, and trusts the CA in the webhook configuration.
type load struct {
	writes *harness.Writer
	// hangUp stops connecting, and returns the number of successful connections and the errors.
	hangUp func() (int, []error)
}

func newLoad(t *testing.T) load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var errs []error
	done, api := 0, clientset(t)
	running.Go(func() {
		for pace := rate.NewLimiter(20, 1); pace.Wait(ctx) == nil; done++ {
			if err := connect(context.WithoutCancel(ctx), api); err != nil {
				errs = append(errs, err)
			}
		}
	})
	t.Cleanup(cancel)
	return load{env.Write(t, perSecond, everyForm...), func() (int, []error) {
		cancel()
		running.Wait()
		return done, errs
	}}
}

func connect(ctx context.Context, api kubernetes.Interface) error {
	have, err := api.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "mirrorgate", metav1.GetOptions{})
	if err != nil {
		return err
	}
	client := have.Webhooks[0].ClientConfig
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(client.CABundle)
	at, err := url.Parse(*client.URL)
	if err != nil {
		return err
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: trusted}}
	conn, err := dialer.DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return fmt.Errorf("%s: %w", time.Now().Format("05.000"), err)
	}
	return conn.Close()
}

// unharmed requires that every write and connection succeeded, and that there were some.
func (l load) unharmed(t *testing.T) {
	t.Helper()
	connections, errs := l.hangUp()
	require.Empty(t, errs, "of %d connections", connections)
	require.Empty(t, l.writes.Harmed(t), "of %d writes", l.writes.Done())
	t.Logf("%d writes, %.0f in a second, and %d connections", l.writes.Done(), l.writes.Rate(), connections)
	require.Greater(t, l.writes.Rate(), perSecond/8.0)
	require.Positive(t, connections)
}

// steady requires that routes were written at the full rate, if the machine is reserved for the rotation test
// (`make rotation`).
func (l load) steady(t *testing.T) {
	t.Helper()
	if *rotating >= time.Minute {
		require.Greater(t, l.writes.Rate(), 0.95*perSecond)
	}
}

// rotated is an installation of two replicas whose certificate changes.
type rotated struct {
	front   *front
	servers [2]*harness.Server
	// launch starts the replica with the given index.
	launch func(n int) *harness.Server
	// rotate triggers a renewal of the certificate, where none happens by itself. remove deletes the source
	// from which the replicas get it, and corrupt damages the source.
	rotate, remove, corrupt func()
}

// unharmedBut requires that no write or connection fails except those that were in progress at a replica when
// it was killed; then it calls more and waits until all is well.
func (l load) unharmedBut(t *testing.T, kill, more func()) {
	t.Helper()
	kill()
	gone := time.Now()
	more()
	l.writes.Healed(t)
	refused := 0
	for _, f := range l.writes.Stop() {
		if !errors.Is(f.Err, harness.ErrAsWritten) {
			require.Less(t, f.Began, gone.Add(time.Second), "not in progress when the replica was killed: %s", f)
			refused++
		}
	}
	t.Logf("of %d writes, %.0f in a second, refused: %d", l.writes.Done(), l.writes.Rate(), refused)
	require.LessOrEqual(t, refused, 2*l.writes.Routes(), "more failures than one mutating and one validating call per route")
	connections, errs := l.hangUp()
	require.LessOrEqual(t, len(errs), 1, "of %d connections, at most one can be open to the replica when it is killed: %v", connections, errs)
}

// The sources of a certificate, each with the program to install.
var modes = map[string]func(t *testing.T, program, life string) *rotated{
	"self": func(t *testing.T, program, life string) *rotated {
		r, ns := &rotated{front: newFront(t)}, env.Namespace(t)
		register(t, r.front)
		r.launch = func(int) *harness.Server {
			return launchProgram(t, program, ns, "--certs", "self", "--cert-life", life)
		}
		r.start(t)
		r.remove = func() { env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.SelfSecret) }
		r.corrupt = func() {
			env.MustKubectl(t, "", "-n", ns, "patch", "secret", certs.SelfSecret, "--type=merge", "-p", `{"data":{"tls.crt":"bm8=","ca.key":"bm8="}}`)
		}
		if r.rotate = r.remove; life == short {
			r.rotate = func() {}
		}
		return r
	},
	"cert-manager, with an issuer of its own": func(t *testing.T, program, _ string) *rotated {
		require.NoError(t, env.InstallCRDs(t.Context(), "cert-manager"))
		r, ns := &rotated{front: newFront(t)}, env.Namespace(t)
		register(t, r.front)
		env.MustKubectl(t, "", "annotate", "mutatingwebhookconfiguration/mirrorgate", "validatingwebhookconfiguration/mirrorgate",
			certs.InjectAnnotation+"="+ns+"/"+certs.IssuedSecret)
		r.launch = func(int) *harness.Server {
			return launchProgram(t, program, ns, "--certs", "auto", "--cert-life", "24h")
		}
		r.start(t)
		i := newIssuer(t, ns)
		leaf := i.wanted(t)
		r.rotate = func() { i.issue(t.Context(), t, leaf.Spec) }
		r.rotate()
		i.condition(t, certmanagerv1.CertificateConditionReady, cmmeta.ConditionTrue, "Ready", "issued")
		i.inject(t)
		r.remove = func() { env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.IssuedSecret) }
		r.corrupt = func() {
			env.MustKubectl(t, "", "-n", ns, "patch", "secret", certs.IssuedSecret, "--type=merge", "-p", `{"data":{"tls.crt":"bm8="}}`)
		}
		return r
	},
	"files": func(t *testing.T, program, _ string) *rotated {
		r := &rotated{front: newFront(t)}
		register(t, r.front)
		i := newIssuer(t, "")
		dirs := [2]string{t.TempDir(), t.TempDir()}
		in := func(do func(dir string)) func() {
			return func() {
				for _, dir := range dirs {
					do(dir)
				}
			}
		}
		r.rotate = in(func(dir string) { renewFiles(t, i, dir, time.Minute) })
		r.remove = in(func(dir string) { mount(t, dir, nil) })
		r.corrupt = in(func(dir string) { mount(t, dir, map[string]string{"tls.crt": "no", "tls.key": "no"}) })
		r.rotate()
		ns := env.Namespace(t)
		r.launch = func(n int) *harness.Server {
			return launchProgram(t, program, ns, "--certs", "files", "--cert-dir", dirs[n])
		}
		r.start(t)
		i.inject(t)
		return r
	},
}

func (r *rotated) start(t *testing.T) {
	t.Helper()
	for n := range r.servers {
		r.servers[n] = r.launch(n)
	}
	r.front.use(r.servers[:]...)
}

// endLeader ends the leader as Kubernetes ends a pod, and starts a new replica in its place.
func (r *rotated) endLeader(t *testing.T) {
	t.Helper()
	leads, _ := leader(t, r.servers[:]...)
	leads.Stop(t)
	n := slices.Index(r.servers[:], leads)
	r.servers[n] = r.launch(n)
	r.front.use(r.servers[:]...)
	waitReady(t, r.servers[:]...)
}

// renewFiles writes a certificate as kubelet updates a mounted Secret.
func renewFiles(t *testing.T, i *issuer, dir string, life time.Duration) {
	t.Helper()
	crt, key := i.sign(t, nil, []string{"127.0.0.1"}, life)
	mount(t, dir, map[string]string{"tls.crt": string(crt), "tls.key": string(key)})
}

func TestRotationUnderWritesLosesNone(t *testing.T) {
	for mode, start := range modes {
		t.Run(mode, func(t *testing.T) {
			r := start(t, env.Binary, short)
			waitReady(t, r.servers[:]...)
			waitArmed(t)
			l := newLoad(t)
			pace := rate.NewLimiter(rate.Every(3*time.Second), 1)
			rotations := 0
			for began := time.Now(); time.Since(began) < *rotating; rotations++ {
				require.NoError(t, pace.Wait(t.Context()))
				renewed := renewal(t, r.servers[:]...)
				r.rotate()
				renewed()
			}
			require.Greater(t, rotations, 1)
			l.unharmed(t)
			l.steady(t)
		})
	}
}

// clocked builds the program with a clock that set moves.
func clocked(t *testing.T) (binary string, set func(wrong time.Duration)) {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs(filepath.Join(harness.Root(), "cmd", "mirrorgate", "clock.go"))
	require.NoError(t, err)
	other, err := filepath.Abs(filepath.Join("testdata", "clock.go"))
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: other}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	binary = filepath.Join(dir, "mirrorgate")
	require.NoError(t, harness.Build(t.Context(), harness.Root(), binary, "-overlay", filepath.Join(dir, "overlay.json")))

	file := filepath.Join(dir, "wrong")
	set = func(wrong time.Duration) {
		require.NoError(t, os.WriteFile(file+"-new", []byte(strconv.Itoa(int(wrong.Seconds()))), 0o600))
		require.NoError(t, os.Rename(file+"-new", file))
	}
	set(0)
	t.Setenv("MIRRORGATE_TEST_CLOCK", file)
	return binary, set
}

func TestRotationSurvivesFaultsOfItsSourceItsClockAndItsLeader(t *testing.T) {
	binary, set := clocked(t)
	for mode, start := range modes {
		t.Run(mode, func(t *testing.T) {
			r := start(t, binary, long)
			waitReady(t, r.servers[:]...)
			waitArmed(t)
			l := newLoad(t)
			rotations := 0
			after := func(what string, happens func()) {
				t.Log(what)
				renewed := renewal(t, r.servers[:]...)
				happens()
				l.writes.Flows(t, 50)
				r.rotate()
				renewed()
				rotations++
			}
			for began := time.Now(); ; {
				after("the source of the certificate is deleted", r.remove)
				after("the source of the certificate is corrupted", r.corrupt)
				for _, wrong := range jumps {
					after(fmt.Sprintf("the clocks of all replicas are wrong by %s", wrong), func() { set(wrong) })
				}
				set(0)
				t.Log("the leader ends, and a new replica starts")
				r.endLeader(t)
				after("certificates rotate with the new replica", r.rotate)
				if time.Since(began) >= *rotating {
					break
				}
			}
			t.Logf("%d rotations", rotations)
			l.unharmed(t)
			l.steady(t)

			if mode == "self" {
				return // the self-managed mode has its own test, since there the leader makes the certificate
			}
			l = newLoad(t)
			l.writes.Flows(t, 50)
			leads, follows := leader(t, r.servers[:]...)
			l.unharmedBut(t, leads.Kill, func() {
				renewed := renewal(t, follows)
				r.rotate()
				renewed()
			})
		})
	}
}

var jumps = []time.Duration{48 * time.Hour, 0, -48 * time.Hour, time.Minute}

// TestReplicaStaysReadyWhenItsClockJumps causes no traffic, so that no response of the API server corrects
// anything early.
func TestReplicaStaysReadyWhenItsClockJumps(t *testing.T) {
	binary, set := clocked(t)
	register(t, newFront(t))
	server := launchProgram(t, binary, env.Namespace(t), "--certs", "self")
	waitReady(t, server)
	for range 5 {
		for _, wrong := range jumps {
			set(wrong)
			status, said := harness.Fetch(t, server.HealthURL+"/readyz/certificate")
			require.Equal(t, 200, status, "%s: %s\n%s", wrong, said, server.Log())
		}
	}
}

// TestKilledLeadersRotationIsContinued deletes the Secret, and kills the leader when the next CA has been
// made but has issued no certificate.
func TestKilledLeadersRotationIsContinued(t *testing.T) {
	ns, servers := pair(t, "--certs", "self", "--cert-life", "1m") // more than the 15 s until another leads
	waitArmed(t)
	leads, follows := leader(t, servers[:]...)
	l := newLoad(t)
	l.writes.Flows(t, 100)
	made := func() int { return strings.Count(leads.Log(), "Made a new CA") }
	before, renewed := made(), renewal(t, follows)
	env.MustKubectl(t, "", "-n", ns, "delete", "secret", certs.SelfSecret)
	harness.Eventually(t, func() bool { return made() > before }, "no new CA")
	l.unharmedBut(t, leads.Kill, func() {
		harness.Eventually(t, func() bool { return follows.Metric(t, "leader_election_master_status") == 1 }, "no replica leads")
		renewed()
	})
}
