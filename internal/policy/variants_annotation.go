package policy

// The value of the variants annotation, which the controller's touch writes.

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// maxVariantsValue is the largest length of the annotation's value in bytes, apart from the hash at its end.
const maxVariantsValue = 4 << 10

// VariantsValue returns the value of the variants annotation, which lists the states that the decision
// depends on, for admission and for a reader of the route: "httpbin-v2=Ready", with the share of a mirror that copies less
// than it declares: "httpbin-v2=Ready@5%". The end of a list that is too
// long for an annotation is replaced by a hash of the whole.
func VariantsValue(rt *route.Route, snap Snapshot, d Decision) string {
	states := map[string]map[State]bool{}
	for _, m := range rt.Every {
		name := shortTarget(rt, m.Target)
		if states[name] == nil {
			states[name] = map[State]bool{}
		}
		states[name][snap.Variant(m.Target).State] = true
	}
	shares := map[*route.Mirror]string{}
	for _, v := range d.Verdicts {
		if v.lowered {
			shares[v.Mirror] = "@" + v.Share.String() + "%"
		}
	}
	seen := map[string]bool{}
	for _, m := range rt.Every {
		name := shortTarget(rt, m.Target)
		text := name
		if len(states[name]) > 1 { // the states of its ports differ
			text += ":" + strconv.Itoa(int(m.Target.Port))
		}
		seen[text+"="+snap.Variant(m.Target).State.String()+shares[m]] = true
	}
	text := strings.Join(slices.Sorted(maps.Keys(seen)), ",")
	if len(text) > maxVariantsValue {
		return fmt.Sprintf("%s,... (%08x)", printing.Shorten(text, maxVariantsValue), crc32.ChecksumIEEE([]byte(text)))
	}
	return text
}

func shortTarget(rt *route.Route, t route.Target) string {
	name := t.Name
	if t.Namespace != "" && t.Namespace != rt.Namespace {
		name += "." + t.Namespace
	}
	if t.Subset != "" {
		name += "/" + t.Subset
	}
	return name
}
