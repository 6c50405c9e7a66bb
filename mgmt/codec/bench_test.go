package codec_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
)

// interfaces gives an edit of n interfaces, about 320 bytes each.
func interfaces(n int) []byte {
	var b bytes.Buffer
	b.WriteString(head + `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`)
	for i := range n {
		fmt.Fprintf(&b, `<interface><name>eth%d</name><description>interface number %d of the test</description>`+
			`<type xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">ianaift:ethernetCsmacd</type><enabled>true</enabled>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.%d</ip><prefix-length>24</prefix-length></address></ipv4></interface>`,
			i, i, i>>16&255, i>>8&255, i&255)
	}
	b.WriteString(`</interfaces></config>`)
	return b.Bytes()
}

func oneLeaf(key, text string) []byte {
	return []byte(head + `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>` + key +
		`</name><description>` + text + `</description></interface></interfaces></config>`)
}

// sink keeps what a benchmark made.
var sink *data.Container

func build(b testing.TB, n int) *data.Container {
	r, err := codec.Edit(load(b), data.New(load(b)), interfaces(n), data.Merge)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkEdit10k(b *testing.B) {
	s, in := load(b), interfaces(10_000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		sink, _ = codec.Edit(s, data.New(s), in, data.Merge)
	}
}

func BenchmarkReplaceInto10k(b *testing.B) {
	s, in := load(b), interfaces(10_000)
	a := build(b, 10_000)
	for b.Loop() {
		sink, _ = codec.Edit(s, a, in, data.Merge)
	}
}

func BenchmarkCommit10k(b *testing.B) { // diff and validation of everything new, as a first commit
	s := load(b)
	a, empty := build(b, 10_000), data.New(s)
	v, _ := validate.New(s)
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			n := 0
			data.Diff(empty, a, func(data.Change) { n++ })
		}
	})
	b.Run("validate", func(b *testing.B) {
		for b.Loop() {
			if _, _, e := v.Change(empty, a, validate.Refs{}); len(e) > 0 {
				b.Fatal(e[0])
			}
		}
	})
}

func BenchmarkOneLeaf(b *testing.B) {
	s := load(b)
	v, _ := validate.New(s)
	for _, n := range []int{100, 10_000, 100_000} {
		a := build(b, n)
		_, refs, _ := v.Change(data.New(s), a, validate.Refs{})
		in := oneLeaf(fmt.Sprintf("eth%d", n/2), "changed")
		b.Run(fmt.Sprint("edit+diff+validate/", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := codec.Edit(s, a, in, data.Merge)
				if err != nil {
					b.Fatal(err)
				}
				k := 0
				data.Diff(a, c, func(data.Change) { k++ })
				_, _, e := v.Change(a, c, refs)
				if k != 1 || e != nil {
					b.Fatal(k, e)
				}
			}
		})
		c, _ := codec.Edit(s, a, in, data.Merge)
		b.Run(fmt.Sprint("diff/", n), func(b *testing.B) {
			for b.Loop() {
				data.Diff(a, c, func(data.Change) {})
			}
		})
	}
}

func BenchmarkWrite10k(b *testing.B) {
	s := load(b)
	a := build(b, 10_000)
	for _, m := range []codec.Mode{codec.Explicit, codec.ReportAll} {
		w := codec.Writer{Schema: s, Mode: m}
		b.Run(m.String(), func(b *testing.B) {
			var out []byte
			for b.Loop() {
				out = w.Append(out[:0], a)
			}
			b.SetBytes(int64(len(out)))
		})
	}
}

func BenchmarkFilterOneKey(b *testing.B) {
	s := load(b)
	a := build(b, 10_000)
	w := codec.Writer{Schema: s}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		f := filter(b, wrap(`<interface><name>eth5000</name></interface>`))
		out = w.AppendFiltered(out[:0], a, f)
	}
	if len(out) < 200 {
		b.Fatal(string(out))
	}
}

func BenchmarkTokens(b *testing.B) {
	in := interfaces(10_000)
	s := load(b)
	b.Run("own", func(b *testing.B) {
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			l, _ := codec.NewLexer(in, s.ModuleByNS)
			for {
				t, err := l.Next()
				if err != nil {
					b.Fatal(err)
				}
				if t == codec.EOF {
					break
				}
			}
		}
	})
	for name, next := range map[string]func(*xml.Decoder) (xml.Token, error){"encoding-xml-Token": (*xml.Decoder).Token, "encoding-xml-RawToken": (*xml.Decoder).RawToken} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				d := xml.NewDecoder(bytes.NewReader(in))
				for {
					if _, err := next(d); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	in := interfaces(n)
	for b.Loop() {
		var m0, m1 runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m0)
		r, err := codec.Edit(load(b), data.New(load(b)), in, data.Merge)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m1)
		b.ReportMetric(float64(int64(m1.HeapAlloc)-int64(m0.HeapAlloc))/n, "B/interface")
		runtime.KeepAlive(r)
	}
}

// A whole commit in a process: edit into the candidate, validate, diff for
// the features, swap.
func BenchmarkEditAndCommit10k(b *testing.B) {
	s, in := load(b), interfaces(10_000)
	v, _ := validate.New(s)
	for b.Loop() {
		running := data.New(s)
		candidate, err := codec.Edit(s, running, in, data.Merge)
		if err != nil {
			b.Fatal(err)
		}
		_, _, errs := v.Change(running, candidate, validate.Refs{})
		n := 0
		data.Diff(running, candidate, func(data.Change) { n++ })
		if errs != nil || n == 0 {
			b.Fatal(errs, n)
		}
		sink = candidate
	}
}

// Every interface gets another description.
func BenchmarkDiffAllChanged10k(b *testing.B) {
	s := load(b)
	a := build(b, 10_000)
	c, err := codec.Edit(s, a, bytes.ReplaceAll(interfaces(10_000), []byte("of the test"), []byte("renamed")), data.Merge)
	if err != nil {
		b.Fatal(err)
	}
	v, _ := validate.New(s)
	_, refs, _ := v.Change(data.New(s), a, validate.Refs{})
	b.Run("diff", func(b *testing.B) {
		for b.Loop() {
			n := 0
			data.Diff(a, c, func(data.Change) { n++ })
			if n != 10_000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		for b.Loop() {
			v.Change(a, c, refs)
		}
	})
}

// Deleting an interface that n static routes do not use must not cost O(n).
func BenchmarkDeleteInterfaceWithRoutes(b *testing.B) {
	s := load(b)
	v, _ := validate.New(s)
	var x bytes.Buffer
	x.WriteString(head + wrap(`<interface><name>a</name><type>i:other</type></interface><interface><name>b</name><type>i:other</type></interface>`) + static + `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing">`)
	for i := range 100_000 {
		fmt.Fprintf(&x, `<route><destination-prefix>%d.%d.%d.0/24</destination-prefix><next-hop><outgoing-interface>a</outgoing-interface></next-hop></route>`, 1+i>>16, i>>8&255, i&255)
	}
	x.WriteString(`</ipv4>` + staticEnd + `</config>`)
	var a *data.Container
	var refs validate.Refs
	b.Run("load-100k-routes", func(b *testing.B) {
		b.SetBytes(int64(x.Len()))
		for b.Loop() {
			a, _ = codec.Edit(s, data.New(s), x.Bytes(), data.Merge)
		}
	})
	b.Run("validate-100k-leafrefs", func(b *testing.B) {
		for b.Loop() {
			_, refs, _ = v.Change(data.New(s), a, validate.Refs{})
		}
	})
	in := []byte(head + wrap(`<interface nc:operation="delete"><name>b</name></interface>`) + `</config>`)
	b.Run("delete-unused", func(b *testing.B) {
		for b.Loop() {
			c, err := codec.Edit(s, a, in, data.Merge)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, e := v.Change(a, c, refs); e != nil {
				b.Fatal(e[0])
			}
		}
	})
}

// TestResident is the process's memory with 10 000 interfaces after edit,
// commit and a whole get-config.
func TestResident(t *testing.T) {
	s := load(t)
	a := build(t, 10_000)
	v, _ := validate.New(s)
	v.Change(data.New(s), a, validate.Refs{})
	_ = write(t, a)
	st, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for _, l := range strings.Split(string(st), "\n") {
		if strings.HasPrefix(l, "VmHWM") || strings.HasPrefix(l, "VmRSS") {
			t.Log(l)
		}
	}
	runtime.KeepAlive(a)
}
