package mgmt

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/validate"
	"vrouter/mgmt/yang"
)

var dirs = []string{"/usr/share/yuma/nmda-modules/ietf", "/usr/share/yuma/modules/ietf"}

var schema = sync.OnceValues(func() (*yang.Schema, error) {
	return yang.Load(yang.Options{Dirs: dirs}, "ietf-interfaces", "ietf-ip", "ietf-routing",
		"ietf-ipv4-unicast-routing", "ietf-ipv6-unicast-routing", "iana-if-type")
})

func load(t testing.TB) *yang.Schema {
	if _, err := os.Stat(dirs[0]); err != nil {
		t.Skip("needs Debian's libyuma-base")
	}
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const head = `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">`

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

func edit(t testing.TB, root *data.Container, xml string) *data.Container {
	t.Helper()
	r, err := codec.Edit(load(t), root, []byte(head+xml+"</config>"), data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t testing.TB, root *data.Container) string {
	return string(codec.Writer{Schema: load(t)}.Append(nil, root))
}

const ifs = `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">`

func wrap(s string) string { return ifs + s + `</interfaces>` }

func TestRoundTrip(t *testing.T) {
	s := load(t)
	in := interfaces(500)
	a, err := codec.Edit(s, data.New(s), in, data.Merge)
	if err != nil {
		t.Fatal(err)
	}
	out := write(t, a)
	b := edit(t, data.New(s), out)
	n := 0
	data.Diff(a, b, func(data.Change) { n++ })
	if n != 0 || write(t, b) != out {
		t.Fatalf("%d changes after a round trip", n)
	}
	if err := xml.Unmarshal([]byte("<x>"+out+"</x>"), new(struct{})); err != nil {
		t.Fatal(err)
	}
	if c, _ := codec.Edit(s, a, in, data.Merge); c != a {
		t.Fatal("an edit that changes nothing must give the same tree")
	}
}

func TestOperations(t *testing.T) {
	s := load(t)
	base := edit(t, data.New(s), wrap(`<interface><name>a</name><description>x &lt;&amp; y</description><type>i:other</type></interface><interface><type>i:atm</type><name>b</name></interface>`))
	before := write(t, base)
	if !strings.Contains(before, "x &lt;&amp; y") || !strings.Contains(before, "<name>b</name>") {
		t.Fatal(before)
	}
	for _, c := range []struct{ name, xml, tag, path string }{
		{"create existing", `<interface nc:operation="create"><name>a</name></interface>`, "data-exists", "/ietf-interfaces:interfaces/interface[name='a']"},
		{"delete missing", `<interface nc:operation="delete"><name>zz</name></interface>`, "data-missing", "/ietf-interfaces:interfaces/interface[name='zz']"},
		{"remove missing", `<interface nc:operation="remove"><name>zz</name></interface>`, "", ""},
		{"bad op", `<interface nc:operation="bogus"><name>a</name></interface>`, "bad-attribute", ""},
		{"no key", `<interface><enabled>true</enabled></interface>`, "missing-element", ""},
		{"unknown leaf", `<interface><name>a</name><bogus/></interface>`, "unknown-element", "/ietf-interfaces:interfaces/interface[name='a']"},
		{"unknown ns", `<interface xmlns="urn:nope"><name>a</name></interface>`, "unknown-namespace", ""},
		{"bad boolean", `<interface><name>a</name><enabled>1</enabled></interface>`, "invalid-value", "/ietf-interfaces:interfaces/interface[name='a']/enabled"},
		{"state leaf", `<interface><name>a</name><oper-status>up</oper-status></interface>`, "invalid-value", ""},
		{"nesting", `<interface><name>a</name></interfaces>`, "malformed-message", ""},
		{"doctype", `<!DOCTYPE x><interface/>`, "malformed-message", ""},
	} {
		r, err := codec.Edit(s, base, []byte(head+wrap(c.xml)+"</config>"), data.Merge)
		var e *data.Error
		if c.tag == "" {
			if err != nil || r != base {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if !errors.As(err, &e) || e.Tag != c.tag || c.path != "" && e.Path != c.path {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	gone := edit(t, base, wrap(`<interface nc:operation="delete"><name>a</name></interface><interface nc:operation="delete"><name>b</name></interface>`))
	if write(t, gone) != "" || write(t, base) != before {
		t.Fatal("delete: ", write(t, gone))
	}
	rep := edit(t, base, wrap(`<interface nc:operation="replace"><name>a</name><type>i:atm</type></interface>`))
	var got []string
	data.Diff(base, rep, func(c data.Change) { got = append(got, fmt.Sprintf("%d%s", c.Kind, c.Path)) })
	if len(got) != 2 || got[0] != "1/ietf-interfaces:interfaces/interface[name='a']/description" || got[1] != "2/ietf-interfaces:interfaces/interface[name='a']/type" {
		t.Fatal(got)
	}
	if _, err := codec.Edit(s, base, []byte(head+wrap(`<interface><name>zz</name></interface>`)+"</config>"), data.None); err == nil {
		t.Fatal("default-operation none must want the entry")
	}
}

const static = `<routing xmlns="urn:ietf:params:xml:ns:yang:ietf-routing"><control-plane-protocols><control-plane-protocol><type>static</type><name>s</name><static-routes>`
const staticEnd = `</static-routes></control-plane-protocol></control-plane-protocols></routing>`

func route(nh string) string {
	return static + `<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv4-unicast-routing"><route><destination-prefix>10.9.9.9/8</destination-prefix><next-hop>` +
		nh + `</next-hop></route></ipv4>` + staticEnd
}

func TestChoiceAndFamilies(t *testing.T) {
	s := load(t)
	a := edit(t, data.New(s), route(`<next-hop-address>192.0.2.1</next-hop-address>`)+static+
		`<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ipv6-unicast-routing"><route><destination-prefix>2001:DB8::1/32</destination-prefix><next-hop><next-hop-address>FE80::1</next-hop-address></next-hop></route></ipv6>`+staticEnd)
	out := write(t, a)
	for _, w := range []string{"<destination-prefix>10.0.0.0/8<", "<destination-prefix>2001:db8::/32<", "<next-hop-address>fe80::1<", `xmlns:rt="urn:ietf:params:xml:ns:yang:ietf-routing">rt:static<`} {
		if !strings.Contains(out, w) {
			t.Errorf("no %s in %s", w, out)
		}
	}
	b := edit(t, a, route(`<special-next-hop>blackhole</special-next-hop>`))
	if strings.Contains(write(t, b), "192.0.2.1") {
		t.Fatal("the other case must go")
	}
}

func TestLeafref(t *testing.T) {
	s := load(t)
	v, _ := validate.New(s)
	empty := data.New(s)
	a := edit(t, empty, wrap(`<interface><name>a</name><type>i:other</type></interface><interface><name>b</name><type>i:other</type></interface>`)+
		route(`<outgoing-interface>a</outgoing-interface>`))
	_, refs, errs := v.Change(empty, a, validate.Refs{})
	if len(errs) > 0 {
		t.Fatal(errs[0])
	}
	if _, _, errs = v.Change(a, edit(t, a, wrap(`<interface nc:operation="delete"><name>b</name></interface>`)), refs); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	_, _, errs = v.Change(a, edit(t, a, wrap(`<interface nc:operation="delete"><name>a</name></interface>`)), refs)
	if len(errs) != 1 || errs[0].AppTag != "instance-required" || !strings.HasSuffix(errs[0].Path, "/outgoing-interface") {
		t.Fatal(errs)
	}
	_, _, errs = v.Change(a, edit(t, a, route(`<outgoing-interface>zz</outgoing-interface>`)), refs)
	if len(errs) != 1 {
		t.Fatal(errs)
	}
	_, _, errs = v.Change(a, edit(t, a, wrap(`<interface><name>a</name><type nc:operation="delete"/></interface>`)), refs)
	if len(errs) != 1 || errs[0].Tag != "data-missing" {
		t.Fatal(errs)
	}
}

func filter(t testing.TB, f string) *codec.Filter {
	c, err := codec.ParseFilter(load(t), []byte(`<filter>`+f+`</filter>`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFilter(t *testing.T) {
	s := load(t)
	a, _ := codec.Edit(s, data.New(s), interfaces(20), data.Merge)
	w := codec.Writer{Schema: s}
	get := func(f string) string { return string(w.AppendFiltered(nil, a, filter(t, f))) }
	if o := get(wrap(`<interface><name>eth7</name></interface>`)); strings.Count(o, "<interface>") != 1 || !strings.Contains(o, "10.0.0.7") {
		t.Fatal(o)
	}
	if o := get(wrap(`<interface><name/></interface>`)); strings.Count(o, "<name>") != 20 || strings.Contains(o, "10.0") {
		t.Fatal(o)
	}
	if o := get(wrap(`<interface><enabled>false</enabled></interface>`)); o != "" {
		t.Fatal(o)
	}
	if o := get(`<interfaces/>`); strings.Count(o, "<interface>") != 20 {
		t.Fatal(o)
	}
	if get(``) != "" || get(`<nope xmlns="urn:z"/>`) != "" {
		t.Fatal("empty filter")
	}
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

// Readers hold old trees while a writer goes on (run with -race).
func TestReadersNeverLock(t *testing.T) {
	s := load(t)
	root := build(t, 300)
	var cur atomic.Pointer[data.Container]
	cur.Store(root)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := codec.Writer{Schema: s}
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := cur.Load()
				if a, b := w.Append(nil, r), w.Append(nil, r); !bytes.Equal(a, b) {
					t.Error("a tree changed under its reader")
					return
				}
			}
		}()
	}
	for i := range 200 {
		n, err := codec.Edit(s, cur.Load(), oneLeaf(fmt.Sprintf("eth%d", i), fmt.Sprint("v", i)), data.Merge)
		if err != nil {
			t.Fatal(err)
		}
		cur.Store(n)
	}
	close(stop)
	wg.Wait()
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
