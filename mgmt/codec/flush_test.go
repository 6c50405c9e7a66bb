package codec_test

import (
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

// What Flush is given in pieces is what comes without it in one.
func TestFlush(t *testing.T) {
	tree := build(t, 3000)
	filters := []string{"", `<filter/>`,
		`<filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"/></filter>`,
		`<filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><enabled>true</enabled></interface></interfaces></filter>`,
		`<filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><enabled>false</enabled></interface></interfaces></filter>`,
		`<filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><description/><oper-status/></interface></interfaces></filter>`}
	for _, mode := range []codec.Mode{codec.Explicit, codec.ReportAll, codec.Trim, codec.ReportAllTagged} {
		for _, indent := range []string{"", "  "} {
			for i, text := range filters {
				var f *codec.Filter
				if text != "" {
					var err error
					if f, err = codec.ParseFilter(load(t), []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				w := codec.Writer{Schema: load(t), Mode: mode, Indent: indent}
				want := string(w.AppendFiltered([]byte("before"), tree, f))
				var got strings.Builder
				pieces, most := 0, 0
				w.Flush = func(b []byte) []byte {
					got.Write(b)
					pieces, most = pieces+1, max(most, len(b))
					return b[:0]
				}
				got.Write(w.AppendFiltered([]byte("before"), tree, f))
				if got.String() != want {
					t.Fatalf("mode %v, filter %d: differs", mode, i)
				}
				if len(want) > 200_000 && (pieces < 3 || most > 80_000) {
					t.Errorf("mode %v, filter %d: %d bytes in %d pieces, the longest %d", mode, i, len(want), pieces, most)
				}
			}
		}
	}
	// With nothing set an outer container that holds only defaults may go.
	empty := edit(t, data.New(load(t)), "")
	w := codec.Writer{Schema: load(t), Flush: func(b []byte) []byte { t.Error("flushed nothing"); return b[:0] }}
	if s := string(w.Append(nil, empty)); s != "" {
		t.Error(s)
	}
}
