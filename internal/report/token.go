package report

// Who reports: a token is reviewed by the API server, for the audience of reports. Answers are remembered for a short
// time, and reviews are bounded, so that nobody without a token makes the API server work.

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

const (
	// goodFor is how long the answer about a token is believed: a pod that was deleted can report for as long.
	goodFor = time.Minute
	// badFor is how long a refused token is refused without another review.
	badFor = 10 * time.Second
	// maxTokens bounds the answers that are remembered.
	maxTokens = 16384
)

// identity is the bearer of a token.
type identity struct{ namespace, pod string }

var (
	// errRefused is wrapped by the error about a token that is not one of a proxy.
	errRefused = errors.New("the token is refused")
	// errBusy is the error of a token that was not reviewed, for too many unknown ones.
	errBusy = errors.New("too many tokens to review")
)

// tokens reviews tokens.
type tokens struct {
	reviews authentication.TokenReviewInterface
	now     func() time.Time
	// all bounds the reviews of tokens that are not known yet, and callers those of one address.
	all     *rate.Limiter
	callers *limiters

	mu    sync.Mutex
	known map[[sha256.Size]byte]answer
}

// answer is the API server's about a token.
type answer struct {
	identity identity
	err      error
	until    time.Time
}

func newTokens(reviews authentication.TokenReviewInterface, now func() time.Time) *tokens {
	return &tokens{
		reviews: reviews, now: now, known: map[[sha256.Size]byte]answer{},
		all: rate.NewLimiter(100, 200), callers: newLimiters(5, 50),
	}
}

// identify returns the bearer of a token. One that was good before is reviewed without regard to the bounds, so that a
// flood of others does not keep it out.
func (t *tokens) identify(ctx context.Context, token, caller string) (identity, error) {
	if token == "" {
		return identity{}, fmt.Errorf("%w: there is none", errRefused) // the API server refuses to review it
	}
	key, now := sha256.Sum256([]byte(token)), t.now()
	t.mu.Lock()
	have, ok := t.known[key]
	t.mu.Unlock()
	if ok && now.Before(have.until) {
		return have.identity, have.err
	}
	if !ok || have.err != nil {
		if !t.callers.allow(caller, now) || !t.all.AllowN(now, 1) {
			return identity{}, errBusy
		}
	}
	id, err := t.review(ctx, token)
	if err != nil && !errors.Is(err, errRefused) {
		return identity{}, err // the API server did not answer
	}
	until := now.Add(goodFor)
	if err != nil {
		until = now.Add(badFor)
	}
	t.remember(key, answer{id, err, until}, now)
	return id, err
}

// remember keeps an answer. Where there are too many, those that are out of date go, and if these are none, the refused
// ones.
func (t *tokens) remember(key [sha256.Size]byte, a answer, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTokens {
		for k, old := range t.known {
			if old.err != nil || now.After(old.until.Add(goodFor)) {
				delete(t.known, k)
			}
		}
	}
	if len(t.known) < maxTokens {
		t.known[key] = a
	}
}

// review asks the API server about a token.
func (t *tokens) review(ctx context.Context, token string) (identity, error) {
	r, err := t.reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return identity{}, fmt.Errorf("review the token: %w", err)
	}
	s := &r.Status
	// An API server that knows no audiences leaves them out, and has not checked this one.
	if !s.Authenticated || !slices.Contains(s.Audiences, Audience) {
		return identity{}, fmt.Errorf("%w: it is no valid one for audience %s %s", errRefused, Audience, s.Error)
	}
	account, ok := strings.CutPrefix(s.User.Username, "system:serviceaccount:")
	namespace, name, found := strings.Cut(account, ":")
	if !ok || !found || name != wellknown.ProxyAccount {
		return identity{}, fmt.Errorf("%w: %s is no account %s", errRefused, s.User.Username, wellknown.ProxyAccount)
	}
	id := identity{namespace: namespace}
	if pod := s.User.Extra["authentication.kubernetes.io/pod-uid"]; len(pod) == 1 {
		id.pod = pod[0]
	}
	return id, nil
}

// limiters are token buckets by name, in bounded memory.
type limiters struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// maxBuckets bounds the buckets; full ones go first, since a new one is full too.
const maxBuckets = 4096

func newLimiters(limit rate.Limit, burst int) *limiters {
	return &limiters{rate: limit, burst: burst, buckets: map[string]*rate.Limiter{}}
}

// allow reports whether name may do one more.
func (l *limiters) allow(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[name]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			for n, other := range l.buckets {
				if other.TokensAt(now) >= float64(l.burst) {
					delete(l.buckets, n)
				}
			}
		}
		if len(l.buckets) >= maxBuckets {
			return false
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.buckets[name] = b
	}
	return b.AllowN(now, 1)
}
