package txn_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
	modules "vrouter/yang"
)

// router opens a directory under the router's own modules.
func router(b *testing.B) (*txn.Manager, *yang.Schema) {
	b.Helper()
	on := modules.Features()
	s, err := yang.Load(yang.Options{FS: modules.FS, Features: func(m, f string) bool { return slices.Contains(on[m], f) }}, modules.Implemented()...)
	if err != nil {
		b.Fatal(err)
	}
	v, err := validate.New(s)
	if err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	st, err := datastore.Open(datastore.Options{Dir: b.TempDir(), Schema: s, Validator: v, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	m, err := txn.New(txn.Options{Schema: s, Validator: v, Store: st, Applier: anything{}, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close(); st.Close() })
	return m, s
}

// interfaces is an edit of n interfaces, about 320 bytes each.
func interfaces(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`)
	for i := range n {
		fmt.Fprintf(&b, `<interface><name>eth%d</name><description>interface number %d of the test</description>`+
			`<type xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">ianaift:ethernetCsmacd</type><enabled>true</enabled>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.%d</ip><prefix-length>24</prefix-length></address></ipv4></interface>`,
			i, i, i>>16&255, i>>8&255, i&255)
	}
	b.WriteString(`</interfaces></config>`)
	return b.Bytes()
}

func xml(s *yang.Schema, config []byte, op data.Op) txn.EditFunc {
	return func(t *data.Container) (*data.Container, error) { return codec.Edit(s, t, config, op) }
}

// BenchmarkCommit is an edit of candidate and its commit: parsed, validated,
// written to disk with its fsync, swapped. The data plane takes no time.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("one-leaf/%d-interfaces", n), func(b *testing.B) {
			m, s := router(b)
			if err := m.Edit(ctx, ann, running, txn.EditOptions{}, xml(s, interfaces(n), data.Merge)); err != nil {
				b.Fatal(err)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				edit := fmt.Appendf(nil, `<config><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>eth%d</name><description>changed for the %d. time</description></interface></interfaces></config>`, n/2, i)
				if err := m.Edit(ctx, ann, candidate, txn.EditOptions{}, xml(s, edit, data.Merge)); err != nil {
					b.Fatal(err)
				}
				if err := m.Commit(ctx, ann, txn.CommitOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("10000-interfaces", func(b *testing.B) {
		m, s := router(b)
		all := interfaces(10_000)
		for b.Loop() {
			b.StopTimer()
			if err := m.Copy(ctx, ann, txn.Source{Tree: data.New(s)}, running); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if err := m.Edit(ctx, ann, candidate, txn.EditOptions{}, xml(s, all, data.Merge)); err != nil {
				b.Fatal(err)
			}
			if err := m.Commit(ctx, ann, txn.CommitOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
