package routing

// Compiling the filters of rules and backends.

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// filters is the combined effect of the filters of a rule or of a backend.
type filters struct {
	request, response message.HeaderEdits
	rewrite           Rewrite
	redirect          *Redirect
	mirrors           []mirrorSpec
}

// mirrorSpec is a RequestMirror with its path in the specification.
type mirrorSpec struct {
	*spec.RequestMirror
	at string
}

// filters compiles owner.filters. prefix is the path prefix that ReplacePrefixMatch replaces, nil if that
// filter is not allowed.
func (c *compiler) filters(specs []spec.Filter, owner string, prefix *string) filters {
	var out filters
	seen := map[string]bool{}
	for i := range specs {
		s, at := &specs[i], index(owner, "filters", i)
		if !c.filterType(s, at) {
			continue
		}
		if seen[s.Type] && s.Type != "RequestMirror" {
			c.invalid(at+".type", s.Type, "is used above already; only RequestMirror may be repeated")
			continue
		}
		seen[s.Type] = true
		switch s.Type {
		case "RequestHeaderModifier":
			out.request = c.headers(s.RequestHeaderModifier, at+".requestHeaderModifier")
		case "ResponseHeaderModifier":
			out.response = c.headers(s.ResponseHeaderModifier, at+".responseHeaderModifier")
		case "RequestMirror":
			out.mirrors = append(out.mirrors, mirrorSpec{s.RequestMirror, at + ".requestMirror"})
		case "RequestRedirect":
			out.redirect = c.redirect(s.RequestRedirect, at+".requestRedirect", prefix)
		case "URLRewrite":
			out.rewrite.Hostname = s.URLRewrite.Hostname
			c.hostname(at+".urlRewrite.hostname", s.URLRewrite.Hostname)
			out.rewrite.path = c.pathModifier(s.URLRewrite.Path, at+".urlRewrite.path", prefix)
		}
	}
	if out.redirect != nil && seen["URLRewrite"] {
		c.invalid(owner+".filters", nil, "must not have both RequestRedirect and URLRewrite")
	}
	return out
}

// filterType checks that a filter has the field that belongs to its type, and no other.
func (c *compiler) filterType(s *spec.Filter, at string) bool {
	fields := []struct {
		kind, name string
		set        bool
	}{
		{"RequestHeaderModifier", "requestHeaderModifier", s.RequestHeaderModifier != nil},
		{"ResponseHeaderModifier", "responseHeaderModifier", s.ResponseHeaderModifier != nil},
		{"RequestMirror", "requestMirror", s.RequestMirror != nil},
		{"RequestRedirect", "requestRedirect", s.RequestRedirect != nil},
		{"URLRewrite", "urlRewrite", s.URLRewrite != nil},
	}
	known, ok := false, true
	for _, f := range fields {
		switch known = known || f.kind == s.Type; {
		case f.kind == s.Type && !f.set:
			c.invalid(at+"."+f.name, nil, "must be set beside type %s", s.Type)
			ok = false
		case f.kind != s.Type && f.set:
			c.invalid(at+"."+f.name, nil, "must not be set beside type %s; its type is %s", s.Type, f.kind)
			ok = false
		}
	}
	if !known {
		c.invalid(at+".type", s.Type, "must be RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, RequestRedirect or URLRewrite")
	}
	return known && ok
}

func (c *compiler) headers(s *spec.HeaderModifier, at string) message.HeaderEdits {
	fields := func(specs []spec.Header, list string) []message.Field {
		var out []message.Field
		seen := map[string]bool{}
		for i, h := range specs {
			at := index(at, list, i)
			c.editable(at+".name", h.Name)
			if !httpguts.ValidHeaderFieldValue(h.Value) || strings.Trim(h.Value, " \t") != h.Value {
				c.invalid(at+".value", h.Value, "must be the value of a header field: one line, without space around it")
			}
			if seen[strings.ToLower(h.Name)] {
				c.invalid(at+".name", h.Name, "is in %s already; write one value, with commas", list)
			}
			seen[strings.ToLower(h.Name)] = true
			out = append(out, message.Field(h))
		}
		return out
	}
	for i, name := range s.Remove {
		c.editable(index(at, "remove", i), name)
	}
	return message.NewHeaderEdits(fields(s.Set, "set"), fields(s.Add, "add"), s.Remove)
}

// framing lists the fields that frame a message or control the connection. The proxy writes them itself.
var framing = []string{
	"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

// editable checks the name of a field that a filter changes.
func (c *compiler) editable(at, name string) {
	switch l := strings.ToLower(name); {
	case !fieldName.MatchString(name):
		c.invalid(at, name, "must be the name of a header field")
	case l == "host":
		c.invalid(at, name, "cannot be edited as a header; use URLRewrite with hostname")
	case slices.Contains(framing, l):
		c.invalid(at, name, "cannot be edited; it belongs to the connection")
	}
}

func (c *compiler) hostname(at, name string) {
	if name != "" && (!hostname.MatchString(name) || len(name) > 253) {
		c.invalid(at, name, "must be a host name in lower case, without port and wildcard, like example.com")
	}
}

var redirectStatuses = []int{
	http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
	http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
}

func (c *compiler) redirect(s *spec.Redirect, at string, prefix *string) *Redirect {
	d := &Redirect{Status: http.StatusFound, scheme: s.Scheme, hostname: s.Hostname}
	if s.StatusCode != nil {
		d.Status = *s.StatusCode
	}
	if !slices.Contains(redirectStatuses, d.Status) {
		c.invalid(at+".statusCode", d.Status, "must be 301, 302, 303, 307 or 308")
	}
	if s.Scheme != "" && s.Scheme != "http" && s.Scheme != "https" {
		c.invalid(at+".scheme", s.Scheme, "must be http or https")
	}
	c.hostname(at+".hostname", s.Hostname)
	if s.Port != nil {
		if d.port = *s.Port; d.port < 1 || d.port > 65535 {
			c.invalid(at+".port", d.port, "must be from 1 to 65535")
		}
	}
	d.path = c.pathModifier(s.Path, at+".path", prefix)
	return d
}

func (c *compiler) pathModifier(s *spec.PathModifier, at string, prefix *string) pathModifier {
	if s == nil {
		return pathModifier{}
	}
	full, part := s.ReplaceFullPath != nil, s.ReplacePrefixMatch != nil
	switch {
	case s.Type == "ReplaceFullPath" && full && !part:
		c.replacement(at+".replaceFullPath", *s.ReplaceFullPath, false)
		return pathModifier{kind: replaceFullPath, value: *s.ReplaceFullPath}
	case s.Type == "ReplacePrefixMatch" && part && !full && prefix == nil:
		c.invalid(at+".replacePrefixMatch", *s.ReplacePrefixMatch, "needs a rule with exactly one match, and its path of type PathPrefix")
	case s.Type == "ReplacePrefixMatch" && part && !full:
		c.replacement(at+".replacePrefixMatch", *s.ReplacePrefixMatch, true)
		return pathModifier{
			kind: replacePrefix, value: strings.TrimSuffix(*s.ReplacePrefixMatch, "/"), match: strings.TrimSuffix(*prefix, "/"),
		}
	case s.Type == "ReplaceFullPath" || s.Type == "ReplacePrefixMatch":
		c.invalid(at, nil, "must have the field %s, and no other, beside type %s", strings.ToLower(s.Type[:1])+s.Type[1:], s.Type)
	default:
		c.invalid(at+".type", s.Type, "must be ReplaceFullPath or ReplacePrefixMatch")
	}
	return pathModifier{}
}

func (c *compiler) replacement(at, value string, empty bool) {
	if strings.HasPrefix(value, "/") && pathCharacters.MatchString(value) && len(value) <= 1024 || empty && value == "" {
		return
	}
	or := ""
	if empty {
		or = " (or be empty)"
	}
	c.invalid(at, value, "must be a path that begins with /%s, without query, of at most 1024 bytes", or)
}
