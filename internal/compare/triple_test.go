package compare

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestFieldsOfATriple(t *testing.T) {
	type want = map[string]string
	for _, tt := range []struct {
		name                      string
		primary, variant, control string
		want                      want
	}{
		{"equal", `{"a":1}`, `{"a":1}`, `{"a":1}`, want{}},
		{"order of keys, spaces", `{"a":1,"b":2}`, `{ "b":2, "a":1 }`, `{"a":1,"b":2}`, want{}},
		{"numbers as written", `{"a":1,"b":100,"c":-0}`, `{"a":1.0,"b":1e2,"c":0}`, `{"a":1e0,"b":100.00,"c":0.0}`, want{}},
		{"escapes", `{"a":"Aé"}`, `{"a":"\u0041\u00e9"}`, `{"a":"Aé"}`, want{}},
		{"value", `{"a":1}`, `{"a":2}`, `{"a":1}`, want{"body.a": "variant/agree"}},
		{"control", `{"a":1}`, `{"a":1}`, `{"a":2}`, want{"body.a": "control/agree"}},
		{"copies", `{"a":1}`, `{"a":2}`, `{"a":2}`, want{"body.a": "equal/agree"}},
		{"noise", `{"a":1}`, `{"a":2}`, `{"a":3}`, want{"body.a": "unequal/agree"}},
		{"type", `{"a":1}`, `{"a":"1"}`, `{"a":1}`, want{"body.a": "variant/variant"}},
		{"noise and type", `{"a":1}`, `{"a":"2"}`, `{"a":3}`, want{"body.a": "unequal/variant"}},
		{"null is not absent", `{"a":null}`, `{}`, `{"a":null}`, want{"body.a": "variant/variant"}},
		{"missing object", `{"a":{"b":1,"c":2}}`, `{}`, `{"a":{"b":1,"c":2}}`, want{"body.a": "variant/variant"}},
		{"array order", `{"a":[1,2,3]}`, `{"a":[3,2,1]}`, `{"a":[1,2,3]}`, want{"body.a[]:order": "variant/agree"}},
		{"order of nobody", `{"a":[1,2,3]}`, `{"a":[3,2,1]}`, `{"a":[2,1,3]}`, want{"body.a[]:order": "unequal/agree"}},
		{"element", `[{"p":1,"q":2},{"p":3,"q":4}]`, `[{"p":1,"q":2},{"p":5,"q":4}]`, `[{"p":3,"q":4},{"p":1,"q":2}]`,
			want{"body[].p": "variant/agree", "body[]:order": "unequal/agree"}},
		{"swapped", `[{"p":1,"q":2},{"p":3,"q":4}]`, `[{"p":3,"q":2},{"p":1,"q":4}]`, `[{"p":1,"q":2},{"p":3,"q":4}]`,
			want{"body:elements": "variant/agree"}},
		{"length", `{"a":[1,1]}`, `{"a":[1,1,1]}`, `{"a":[1,1]}`, want{"body.a[]": "variant/agree", "body.a[]:length": "variant/agree"}},
		{"duplicate keys", `{"a":1,"a":2}`, `{"a":2,"a":1}`, `{"a":1,"a":2}`, want{}},
		{"one duplicate less", `{"a":1,"a":2}`, `{"a":2}`, `{"a":1,"a":2}`, want{"body.a": "variant/agree"}},
		{"keys that are data", `{"m":{"ann@example.org":1}}`, `{"m":{"bob@example.org":1}}`, `{"m":{"ann@example.org":1}}`, want{"body.m.{}": "variant/agree"}},
		{"ids as keys", `{"m":{"7f3a91":1}}`, `{"m":{"7f3a92":1}}`, `{"m":{"7f3a93":1}}`, want{"body.m.{}": "unequal/agree"}},
		{"byte order mark", "\xef\xbb\xbf" + `{"a":1}`, `{"a":1}`, `{"a":1}`, want{}},
		{"not a number", `{"a":1}`, `{"a":NaN}`, `{"a":1}`, want{"body": "variant/variant"}},
		{"broken off", `{"a":1}`, `{"a":1`, `{"a":1}`, want{"body": "variant/variant"}},
		{"two documents", `{"a":1}`, `{"a":1}{"a":1}`, `{"a":1}`, want{"body": "variant/variant"}},
		{"empty", `{"a":1}`, ``, `{"a":1}`, want{"body": "variant/variant"}},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "{\"a\":\"\xfe\"}", "{\"a\":\"\xff\"}", want{"body.a": "variant/agree"}},
		{"classes", `{"a":"123e4567-e89b-12d3-a456-426614174000"}`, `{"a":"https://a.example"}`, `{"a":"123e4567-e89b-12d3-a456-426614174001"}`, want{"body.a": "unequal/variant"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, fieldsOf(t, nil, answer(tt.primary), answer(tt.variant), answer(tt.control)))
		})
	}
}

func TestPairsHaveNoControl(t *testing.T) {
	assert.Equal(t, map[string]string{"body.a": "variant/agree"}, fieldsOf(t, nil, answer(`{"a":1}`), answer(`{"a":2}`)))
}

func TestHeads(t *testing.T) {
	with := func(fields ...Field) Answer { return Answer{Status: 200, Fields: fields, Body: []byte("x")} }
	p := with(Field{"Content-Type", "text/plain"}, Field{"Date", "1"}, Field{"ETag", `"a"`}, Field{"Set-Cookie", "a"}, Field{"Set-Cookie", "b"})
	v := with(Field{"content-type", "text/html"}, Field{"Date", "2"}, Field{"ETag", `"a"`}, Field{"Set-Cookie", "b"}, Field{"Set-Cookie", "a"}, Field{"X-New", "1"})
	assert.Equal(t, map[string]string{"header content-type": "variant/agree", "header x-new": "variant/variant"}, fieldsOf(t, nil, p, v, p))
	// Another status is the one finding, whatever the page of the error says.
	missing := answer(`{"error":"no"}`)
	missing.Status = 404
	assert.Equal(t, map[string]string{"status": "variant/variant"}, fieldsOf(t, nil, answer(`{"a":1}`), missing, answer(`{"a":1}`)))
	failed := answer(`{}`)
	failed.Status = 503
	assert.Equal(t, map[string]string{"status": "variant/variant", "error": "variant/variant"}, fieldsOf(t, nil, answer(`{"a":1}`), failed, answer(`{"a":1}`)))
	assert.Equal(t, map[string]string{"status": "variant/variant", "error": "variant/variant"}, fieldsOf(t, nil, answer(`{"a":1}`), Answer{Failure: "timeout"}, answer(`{"a":1}`)))
}

func TestIgnore(t *testing.T) {
	p, v := answer(`{"a":1,"b":{"c":1,"d":"x"},"l":[1,2]}`), answer(`{"a":2,"b":{"c":"2"},"l":[2,1]}`)
	all := map[string]string{"body.a": "variant/agree", "body.b.c": "variant/variant", "body.b.d": "variant/variant", "body.l[]:order": "variant/agree"}
	assert.Equal(t, all, fieldsOf(t, nil, p, v, p))
	for rule, gone := range map[string][]string{
		"body.a": {"body.a"}, "body.a:value": {"body.a"}, "body.a:type": {}, "body.b*": {"body.b.c", "body.b.d"}, "body.b.c:type": {"body.b.c"},
		"body.b.c:value": {}, "body.b.d:presence": {"body.b.d"}, "body.b.d:type": {}, "body.l[]:order": {"body.l[]:order"}, "body*:order": {"body.l[]:order"}, "header etag": {},
	} {
		got := fieldsOf(t, []string{rule}, p, v, p)
		for name := range all {
			_, there := got[name]
			assert.Equal(t, !strings.Contains(" "+strings.Join(gone, " ")+" ", " "+name+" "), there, "%s: %s", rule, name)
		}
	}
	for _, bad := range []string{"price", "body.a:colour", ""} {
		_, err := ParseIgnore(bad)
		assert.Error(t, err, bad)
	}
}

func zip(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestGzipOnOneSide(t *testing.T) {
	v := answer("")
	v.Body = zip(t, `{"a":2}`)
	v.Fields = append(v.Fields, Field{"Content-Encoding", "gzip"})
	assert.Equal(t, map[string]string{"body.a": "variant/agree", "header content-encoding": "variant/variant"}, fieldsOf(t, nil, answer(`{"a":1}`), v, answer(`{"a":1}`)))
	bomb := v
	bomb.Body = zip(t, strings.Repeat(" ", 10<<20))
	assert.Contains(t, fieldsOf(t, nil, answer(`{"a":1}`), bomb, answer(`{"a":1}`)), "body:length")
}

// frame returns a unary answer of gRPC.
func frame(message []byte) Answer {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return Answer{Status: 200, Fields: []Field{{"content-type", "application/grpc"}}, Body: append(body, message...), Trailers: []Field{{"grpc-status", "0"}}}
}

func TestUnaryGRPC(t *testing.T) {
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "name")
	price := func(n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), n)
	}
	nested := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), append(inner, price(7)...))
	p := frame(append(price(1), nested...))
	v := frame(append(bytes.Clone(nested), price(1)...)) // the order of fields is no difference
	assert.Empty(t, fieldsOf(t, nil, p, v, p))
	v = frame(append(bytes.Clone(nested), price(2)...))
	assert.Equal(t, map[string]string{"body.2": "variant/agree"}, fieldsOf(t, nil, p, v, p))
	v = p
	v.Trailers = []Field{{"grpc-status", "13"}}
	assert.Equal(t, map[string]string{"trailer grpc-status": "variant/agree"}, fieldsOf(t, nil, p, v, p))
	v = frame(protowire.AppendBytes(protowire.AppendTag(price(1), 3, protowire.BytesType), append(inner, price(8)...)))
	assert.Equal(t, map[string]string{"body.3.2": "variant/agree"}, fieldsOf(t, nil, p, v, p))
}

// With descriptors fields have names, and a text that could be a message is a text.
func TestDescriptors(t *testing.T) {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if of != "" {
			f.TypeName = &of
		}
		return f
	}
	set, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: new("shop.proto"), Package: new("shop"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("Item"), Field: []*descriptorpb.FieldDescriptorProto{field("price", 1, descriptorpb.FieldDescriptorProto_TYPE_INT64, "")}},
			{Name: new("Cart"), Field: []*descriptorpb.FieldDescriptorProto{field("item", 1, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".shop.Item"), field("note", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING, "")}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Carts"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Get"), InputType: new(".shop.Item"), OutputType: new(".shop.Cart")},
		}}},
	}}})
	require.NoError(t, err)
	messages := Descriptors{}
	require.NoError(t, messages.Add(set))
	cart := func(price uint64, note string) Answer {
		item := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), price)
		return frame(protowire.AppendString(protowire.AppendTag(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), item), 2, protowire.BytesType), note))
	}
	names := func(path string, p, v Answer) (found []string) {
		c := comparison{messages: messages}
		for _, f := range c.compare(&Sample{Request: Request{Path: path}, Primary: p, Variant: v, Control: &p}).fields {
			if f.value != allEqual {
				found = append(found, c.paths.name(f.path))
			}
		}
		return found
	}
	message := string([]byte{8, 1}) // as a message: field 1 is 1
	other := string([]byte{8, 2})
	assert.ElementsMatch(t, []string{"body.item.price", "body.note"}, names("/shop.Carts/Get", cart(1, message), cart(2, other)))
	assert.ElementsMatch(t, []string{"body.1.1", "body.2.1"}, names("/shop.Carts/List", cart(1, message), cart(2, other)))
	require.ErrorContains(t, messages.Add([]byte("no")), "no descriptor set")
	require.ErrorContains(t, messages.Add(nil), "no service")
}

// An object with many keys is a map. Its keys are data, whichever came first.
func TestObjectsUsedAsMaps(t *testing.T) {
	doc := func(from, to, price int) string {
		var keys []string
		for n := from; n < to; n++ {
			keys = append(keys, fmt.Sprintf(`"k%s":{"price":%d}`, strings.Repeat("a", n%40)+strings.Repeat("b", n/40), price))
		}
		return `{"m":{` + strings.Join(keys, ",") + `}}`
	}
	assert.Equal(t, map[string]string{"body.m.{}.price": "variant/agree"}, fieldsOf(t, nil, answer(doc(0, 100, 1)), answer(doc(0, 100, 2)), answer(doc(0, 100, 1))))
	assert.Equal(t, map[string]string{"body.m.{}": "unequal/agree", "body.m.{}.price": "unequal/agree"}, fieldsOf(t, nil, answer(doc(0, 100, 1)), answer(doc(50, 150, 1)), answer(doc(100, 200, 1))))
}
