package policy

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gomodules.xyz/jsonpatch/v2"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/patch"
)

var update = flag.Bool("update", false, "write the want.yaml of every case")

// cluster is the form of testdata/cluster.yaml, which applies to every case, and of a case's own
// cluster.yaml, which adds to it.
type cluster struct {
	Config    Config `json:"config"`
	ManagedBy string `json:"managedBy"`
	// LacksMirrors and LacksShares are those of the Snapshot.
	LacksMirrors string           `json:"lacksMirrors"`
	LacksShares  string           `json:"lacksShares"`
	Variants     []clusterVariant `json:"variants"`
	// Scope holds limits and policies, and Pods the ready pods of Services in namespace shop.
	Scope limits.Scope   `json:"scope"`
	Pods  map[string]int `json:"pods"`
	// Size fills the route's annotations up to this many bytes.
	Size int `json:"size"`
}

type clusterVariant struct {
	Group     string   `json:"group"`
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Subset    string   `json:"subset"`
	State     string   `json:"state"`
	Ports     []Port   `json:"ports"`
	Subsets   []string `json:"subsets"`
	Variant   `json:",inline"`
}

// snapshot returns the snapshot of the mirror targets of routes. A variant in the file stands for every port.
func (c *cluster) snapshot(t *testing.T, routes ...*route.Route) Snapshot {
	t.Helper()
	table := map[route.Target]Variant{}
	for _, in := range c.Variants {
		target := route.Target{Group: in.Group, Kind: in.Kind, Namespace: in.Namespace, Name: in.Name, Subset: in.Subset}
		if target.Kind == "" {
			target.Kind = route.TargetService
		}
		if target.Namespace == "" && target.IsService() {
			target.Namespace = "shop"
		}
		v := in.Variant
		v.Ports, v.Subsets = in.Ports, in.Subsets
		v.LacksSubset = in.Subset != "" && in.Subsets != nil && !slices.Contains(in.Subsets, in.Subset)
		for s := Unknown; s <= Ready; s++ {
			if s.String() == in.State {
				v.State = s
			}
		}
		require.Equal(t, in.State, v.State.String(), "state of %s", in.Name)
		v.Exists = v.State != Unknown && v.Reason != ServiceNotFound && v.Reason != HostNotFound
		table[target] = v
	}
	snap := Snapshot{Variants: map[route.Target]Variant{}, ManagedBy: c.ManagedBy, LacksMirrors: c.LacksMirrors, LacksShares: c.LacksShares, Scope: c.Scope}
	if c.Pods != nil {
		snap.Scope.Pods = map[route.Target]int{}
	}
	for name, ready := range c.Pods {
		snap.Scope.Pods[route.Target{Kind: route.TargetService, Namespace: "shop", Name: name}] = ready
	}
	for _, rt := range routes {
		for _, m := range rt.Every {
			if v, known := table[m.Target.WithoutPort()]; known {
				snap.Variants[m.Target] = v
			}
		}
	}
	return snap
}

// outcome is the form of a want.yaml.
type outcome struct {
	// Error is the error of Decode.
	Error   string          `json:"error,omitempty"`
	Action  Action          `json:"action,omitempty"`
	Reason  Reason          `json:"reason,omitempty"`
	Touch   string          `json:"touch,omitempty"`
	Mirrors []outcomeMirror `json:"mirrors,omitempty"`
	// Denied are the findings that the write introduced, Known those that were there before it. Both are
	// about the route as it would be stored.
	Denied     []string        `json:"denied,omitempty"`
	Known      []string        `json:"known,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Operations []string        `json:"operations,omitempty"`
	Route      json.RawMessage `json:"route,omitempty"`
}

type outcomeMirror struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Target string `json:"target"`
	Share  string `json:"share"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason Reason `json:"reason"`
	Detail string `json:"detail,omitempty"`
	Misfit string `json:"misfit,omitempty"`
}

func TestGolden(t *testing.T) {
	cases, err := os.ReadDir("testdata")
	require.NoError(t, err)
	seen := map[Reason]bool{}
	for _, c := range cases {
		if !c.IsDir() || c.Name() == "fuzz" {
			continue
		}
		dir := filepath.Join("testdata", c.Name())
		t.Run(c.Name(), func(t *testing.T) {
			got := decideCase(t, dir, seen)
			text, err := yaml.Marshal(got)
			require.NoError(t, err)
			file := filepath.Join(dir, "want.yaml")
			if *update {
				require.NoError(t, os.WriteFile(file, text, 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "run go test ./internal/policy -update")
			if diff := cmp.Diff(string(want), string(text)); diff != "" {
				t.Errorf("%s is stale (-want +got); go test ./internal/policy -update writes it\n%s", file, diff)
			}
		})
	}
	t.Run("every reason has a case", func(t *testing.T) {
		for _, reason := range reasons(t) {
			switch reason {
			case Unchanged, Unreadable: // used by package webhook
			default:
				assert.True(t, seen[reason], "no case has the reason %s", reason)
			}
		}
	})
}

// reasons returns the constants of reasons.go.
func reasons(t *testing.T) (found []Reason) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			found = append(found, Reason(value))
		}
		return true
	})
	require.NotEmpty(t, found)
	return found
}

func read(t *testing.T, file string, into any) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return false
	}
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(text, into), file)
	return true
}

// decideCase decides as the webhooks do: the mutating one about the route as written, the validating one
// about the patched route.
func decideCase(t *testing.T, dir string, seen map[Reason]bool) outcome {
	t.Helper()
	var c, own cluster
	require.True(t, read(t, "testdata/cluster.yaml", &c))
	if read(t, filepath.Join(dir, "cluster.yaml"), &own) {
		c.Variants = append(c.Variants, own.Variants...)
		c.Config, c.ManagedBy, c.Size = own.Config, own.ManagedBy, own.Size
		c.LacksMirrors, c.LacksShares, c.Scope, c.Pods = own.LacksMirrors, own.LacksShares, own.Scope, own.Pods
	}
	opts := route.Options{Namespace: "shop"}

	var before Decision
	var old json.RawMessage
	if read(t, filepath.Join(dir, "old.yaml"), &old) {
		rt, err := route.Decode(old, opts)
		require.NoError(t, err)
		before, err = Decide(rt, c.snapshot(t, rt), c.Config)
		require.NoError(t, err)
		opts.Previous = func() *route.Route { return rt }
	}
	var raw json.RawMessage
	require.True(t, read(t, filepath.Join(dir, "route.yaml"), &raw), "%s has no route.yaml", dir)
	raw = fill(t, raw, c.Size)
	rt, err := route.Decode(raw, opts)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	snap := c.snapshot(t, rt)
	d := decide(t, rt, snap, c.Config)
	stored, err := patch.Apply(raw, d.Plan.Operations)
	require.NoError(t, err, "operations must apply")
	wantNeighboursUnchanged(t, raw, stored)

	result, err := route.Decode(stored, opts)
	require.NoError(t, err)
	final := decide(t, result, snap, c.Config)
	require.Empty(t, final.Plan.Operations, "a second decision must be empty")
	denied, known := Introduced(final, before)
	note(seen, &d, &final)
	return describe(t, &d, outcome{
		Touch: VariantsValue(rt, snap, d), Denied: texts(denied), Known: texts(known), Route: drain(t, stored),
	})
}

// decide decides twice and checks the properties of every decision.
func decide(t *testing.T, rt *route.Route, snap Snapshot, cfg Config) Decision {
	t.Helper()
	d, err := Decide(rt, snap, cfg)
	require.NoError(t, err)
	again, err := Decide(rt, snap, cfg)
	require.NoError(t, err)
	require.Equal(t, d, again, "the same arguments must give the same decision")
	checkDecision(t, &d)
	return d
}

// checkDecision checks the form of messages and operations.
func checkDecision(t *testing.T, d *Decision) {
	t.Helper()
	assert.LessOrEqual(t, len(d.Warnings), 32)
	for _, w := range d.Warnings {
		assert.LessOrEqual(t, len(w), 256, w)
		assert.NotRegexp(t, `[[:cntrl:]]`, w)
	}
	for _, f := range d.Findings {
		assert.NotEmpty(t, f.Field)
		assert.NotEmpty(t, f.Message)
		assert.Less(t, len(f.Error()), 1000)
	}
	for _, op := range d.Plan.Operations {
		assert.Regexp(t, `^/(spec/(rules|http)/\d+/|metadata/annotations$|metadata/annotations/mirrorgate\.dev~1parked$)`, op.Path)
	}
}

// wantNeighboursUnchanged compares, with another library, a route before and after, apart from the parts that
// mirrorgate may change.
func wantNeighboursUnchanged(t *testing.T, before, after []byte) {
	t.Helper()
	rest := func(raw []byte) []byte {
		var v any
		require.NoError(t, json.Unmarshal(raw, &v))
		out, err := json.Marshal(neighbours(v))
		require.NoError(t, err)
		return out
	}
	differences, err := jsonpatch.CreatePatch(rest(before), rest(after))
	require.NoError(t, err)
	assert.Empty(t, differences, "only mirrors, placeholders and the parked annotation may change")
}

// neighbours returns a value without the mirrors, placeholders and parked entries in it, and without the
// levels that are then empty; nil when nothing is left.
func neighbours(v any) any {
	switch v := v.(type) {
	case map[string]any:
		rest := map[string]any{}
		for key, value := range v {
			switch key {
			case "mirror", "mirrors", "mirrorPercentage", "mirrorPercent", "mirror_percent", route.ParkedAnnotation:
			default:
				if value = neighbours(value); value != nil {
					rest[key] = value
				}
			}
		}
		if rest["type"] == "RequestMirror" || len(rest) == 0 || len(rest) == 1 && rest["type"] == "RequestHeaderModifier" {
			return nil
		}
		return rest
	case []any:
		var rest []any
		for _, value := range v {
			if value = neighbours(value); value != nil {
				rest = append(rest, value)
			}
		}
		if rest == nil {
			return nil
		}
		return rest
	case string:
		if strings.HasPrefix(v, "x-mirrorgate-parked-") || strings.HasPrefix(v, "x-mirrorgate-limited-") {
			return nil
		}
	}
	return v
}

const padding = "example.com/padding"

// fill pads the annotations of a route.
func fill(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	if size == 0 {
		return raw
	}
	var o map[string]any
	require.NoError(t, json.Unmarshal(raw, &o))
	metadata, _ := o["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	if annotations == nil {
		annotations = map[string]any{}
	}
	for k, v := range annotations {
		size -= len(k) + len(fmt.Sprint(v))
	}
	annotations[padding] = strings.Repeat("x", size-len(padding))
	metadata["annotations"] = annotations
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	return raw
}

// drain takes the padding out of an expected route, to keep it short.
func drain(t *testing.T, raw []byte) []byte {
	t.Helper()
	var o map[string]any
	require.NoError(t, json.Unmarshal(raw, &o))
	metadata, _ := o["metadata"].(map[string]any)
	if annotations, _ := metadata["annotations"].(map[string]any); annotations[padding] != nil {
		annotations[padding] = "..."
	}
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	return raw
}

func describe(t *testing.T, d *Decision, out outcome) outcome {
	t.Helper()
	out.Action, out.Reason, out.Warnings = d.Action, d.Reason, d.Warnings
	place := map[bool]string{true: "parked", false: "active"}
	for _, v := range d.Verdicts {
		m := v.Mirror
		from, to := place[m.Parked], place[v.Park]
		if m.Limit() > 0 {
			from = fmt.Sprintf("limited to %s %%", m.Limit())
		}
		if v.Share > 0 {
			to = fmt.Sprintf("limited to %s %%", v.Share)
		}
		misfit := d.Plan.Misfits[m.ID]
		if misfit != "" {
			to = from
		}
		out.Mirrors = append(out.Mirrors, outcomeMirror{
			ID: m.ID, Path: m.Path, Target: fmt.Sprintf("%s %s %s", m.Target.Kind, m.Target.Namespace, TargetName(m)),
			Share: fmt.Sprintf("%v %%", m.Percentage.Percent()), From: from, To: to,
			Reason: v.Reason, Detail: v.Detail, Misfit: misfit,
		})
	}
	for _, op := range d.Plan.Operations {
		text, err := json.Marshal([]patch.Operation{op})
		require.NoError(t, err)
		out.Operations = append(out.Operations, string(text[1:len(text)-1]))
	}
	if len(d.Plan.Operations) == 0 {
		out.Route = nil // unchanged
	}
	return out
}

// note records the reasons that appear in a case, in the decision or in a message.
func note(seen map[Reason]bool, decisions ...*Decision) {
	for _, d := range decisions {
		seen[d.Reason] = true
		for _, v := range d.Verdicts {
			seen[v.Reason] = true
		}
		for _, f := range d.Findings {
			seen[f.Reason] = true
		}
		for _, w := range d.Warnings {
			for word := range strings.SplitSeq(w, ": ") {
				seen[Reason(word)] = true
			}
		}
	}
}

func texts(findings []Finding) (texts []string) {
	for _, f := range findings {
		texts = append(texts, f.Error())
	}
	return texts
}
