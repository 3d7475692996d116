package message

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestForwarded(t *testing.T) {
	sent := []Field{
		{"Host", "a.example"}, {"X-Forwarded-For", "6.6.6.6"}, {"x-forwarded-for", "1.1.1.1 ,2.2.2.2,"}, {"X-Forwarded-Proto", "HTTPS"},
		{"X-Forwarded-Host", "www.example"}, {"X-Forwarded-Port", "1"},
	}
	for trusted, want := range map[int][3]string{
		0:  {"10.0.0.9", "http", "a.example"},
		1:  {"2.2.2.2, 10.0.0.9", "https", "www.example"},
		2:  {"1.1.1.1, 2.2.2.2, 10.0.0.9", "https", "www.example"},
		50: {"6.6.6.6, 1.1.1.1, 2.2.2.2, 10.0.0.9", "https", "www.example"},
	} {
		r := &Request{Authority: "a.example", Fields: sent}
		f := NewForwarded(r, "10.0.0.9:4711", "http", trusted)
		assert.Equal(t, want, [3]string{f.For, f.Proto, f.Host}, trusted)
		out := &Outgoing{Request: r, Authority: "a.example", Forwarded: f}
		assert.Equal(t, "Host: a.example\r\nX-Forwarded-Port: 1\r\nX-Forwarded-For: "+want[0]+"\r\nX-Forwarded-Proto: "+want[1]+
			"\r\nX-Forwarded-Host: "+want[2]+"\r\n", fieldsOf(out), trusted)
	}
	r := &Request{Authority: "b", Fields: []Field{{"X-Forwarded-Proto", "gopher"}, {"X-Forwarded-For", " , "}}}
	f := NewForwarded(r, "[fd00::1]:80", "https", 1)
	assert.Equal(t, Forwarded{"fd00::1", "https", "b"}, *f, "nothing that may be believed")
	edits := NewHeaderEdits([]Field{{"x-forwarded-proto", "set"}}, nil, []string{"X-Forwarded-Host"})
	assert.Equal(t, "Host: b\r\nX-Forwarded-For: fd00::1\r\nx-forwarded-proto: set\r\n",
		fieldsOf(&Outgoing{Request: r, Authority: "b", Forwarded: f, Edits: &edits}), "filters come after")
}

func fieldsOf(o *Outgoing) string {
	var out []byte
	for name, value := range o.Each {
		out = AppendField(out, name, value)
	}
	return string(out)
}
