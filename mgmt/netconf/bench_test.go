package netconf

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// The benchmarks run over SSH on loopback, against real datastores that fsync
// to the folder of the tests, with a data plane that takes everything.
// Netopeer2 2.7 took 390 ms, 176 ms and 1 640 ms for the three of them.

// many is the content of a <config> with n interfaces, 320 bytes each.
func many(n int) string {
	var b bytes.Buffer
	b.WriteString(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`)
	for i := range n {
		fmt.Fprintf(&b, `<interface><name>eth%d</name><description>interface number %d of the test</description>`+
			`<type xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">ianaift:ethernetCsmacd</type><enabled>true</enabled>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.%d</ip><prefix-length>24</prefix-length></address></ipv4></interface>`,
			i, i, i>>16&255, i>>8&255, i&255)
	}
	b.WriteString(`</interfaces>`)
	return b.String()
}

const size = 10_000

// exchange sends a message and reads the reply, as little more as may be.
func (c *client) exchange(buf, msg []byte) []byte {
	c.w.Write(msg)
	if err := c.w.End(); err != nil {
		c.t.Fatal(err)
	}
	r, err := c.r.Next(buf[:0])
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func message(op string) []byte {
	return []byte(`<rpc xmlns="` + nsBase + `" message-id="1">` + op + `</rpc>`)
}

var okReply = []byte(`<rpc-reply xmlns="` + nsBase + `" message-id="1"><ok/></rpc-reply>`)

func (c *client) must(buf, msg []byte) []byte {
	r := c.exchange(buf, msg)
	if !bytes.Equal(r, okReply) {
		c.t.Fatalf("%.500s", r)
	}
	return r
}

// BenchmarkOneLeaf changes one leaf of 10 000 interfaces: edit-config of
// candidate and commit, two round trips.
func BenchmarkOneLeaf(b *testing.B) {
	bed := newSSHBed(b)
	c := bed.raw()
	c.ok(edit("running", many(size)))
	buf, com := make([]byte, 0, 4096), message(commitOp)
	i := 0
	for b.Loop() {
		i++
		buf = c.must(buf, message(edit("candidate", interfaces(fmt.Sprintf(`<interface><name>eth%d</name><description>changed %d</description></interface>`, i*7919%size, i)))))
		buf = c.must(buf, com)
	}
}

// BenchmarkRoundTrip is what of BenchmarkOneLeaf is neither edit nor commit:
// two messages there and back.
func BenchmarkRoundTrip(b *testing.B) {
	bed := newSSHBed(b)
	c := bed.raw()
	buf, msg := make([]byte, 0, 4096), message(`<discard-changes/>`)
	for b.Loop() {
		buf = c.must(buf, msg)
		buf = c.must(buf, msg)
	}
}

// BenchmarkGetConfig10000 reads the whole of running, 3.2 MB.
func BenchmarkGetConfig10000(b *testing.B) {
	bed := newSSHBed(b)
	c := bed.raw()
	c.ok(edit("running", many(size)))
	buf, msg := make([]byte, 0, 4<<20), message(getRunning(""))
	for b.Loop() {
		buf = c.exchange(buf, msg)
		if len(buf) < 3_000_000 {
			b.Fatalf("%.300s", buf)
		}
		b.SetBytes(int64(len(buf)))
	}
}

// BenchmarkGetOne10000 reads one interface of 10 000, by subtree and by XPath.
func BenchmarkGetOne10000(b *testing.B) {
	for _, f := range []struct{ name, filter string }{
		{"subtree", subtree(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>eth5000</name></interface></interfaces>`)},
		{"xpath", `<filter type="xpath" xmlns:f="urn:ietf:params:xml:ns:yang:ietf-interfaces" select="/f:interfaces/f:interface[f:name='eth5000']"/>`},
	} {
		b.Run(f.name, func(b *testing.B) {
			bed := newSSHBed(b)
			c := bed.raw()
			c.ok(edit("running", many(size)))
			buf, msg := make([]byte, 0, 4096), message(getRunning(f.filter))
			for b.Loop() {
				if buf = c.exchange(buf, msg); !bytes.Contains(buf, []byte("<name>eth5000</name>")) {
					b.Fatalf("%.300s", buf)
				}
			}
		})
	}
}

// BenchmarkEdit10000 makes 10 000 interfaces in one edit-config and commits
// them. Taking them away again is not counted.
func BenchmarkEdit10000(b *testing.B) {
	bed := newSSHBed(b)
	c := bed.raw()
	msg, com := message(edit("candidate", many(size))), message(commitOp)
	away := message(editWith("candidate", `<default-operation>replace</default-operation>`, ""))
	b.SetBytes(int64(len(msg)))
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = c.must(buf, msg)
		buf = c.must(buf, com)
		b.StopTimer()
		buf = c.must(buf, away)
		buf = c.must(buf, com)
		b.StartTimer()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/1e6, "MB-sys")
}
