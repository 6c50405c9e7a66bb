package mgmt

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// client is a NETCONF session that stays open, for measuring.
type client struct {
	testing.TB
	c net.Conn
	r *bufio.Reader
}

func (s *site) client(b testing.TB) *client {
	c, err := net.Dial("unix", filepath.Join(s.opt.RunDir, "netconf.sock"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	x := &client{b, c, bufio.NewReaderSize(c, 1<<20)}
	x.send(`<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`)
	x.receive()
	return x
}

func (c *client) send(s string) { io.WriteString(c.c, s+"]]>]]>") }

func (c *client) receive() []byte {
	var msg []byte
	for {
		b, err := c.r.ReadSlice('>')
		if msg = append(msg, b...); bytes.HasSuffix(msg, []byte("]]>]]>")) {
			return msg
		}
		if err != nil && err != bufio.ErrBufferFull {
			c.Fatal(err)
		}
	}
}

func (c *client) rpc(op string) {
	c.Helper()
	c.send(`<rpc xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="1">` + op + `</rpc>`)
	if r := c.receive(); bytes.Contains(r, []byte("rpc-error")) {
		c.Fatalf("%.100s: %.1000s", op, r)
	}
}

// cpu is the processor time that this process has used: of the management
// plane, and of the little that the client does.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTenThousandInterfaces is edit-config and commit of 10 000 interfaces
// with an address each: into the journal, and into a model of a data plane in
// another process. cpu-ms is of this process alone.
func BenchmarkTenThousandInterfaces(b *testing.B) {
	s := newSite(b)
	s.start()
	s.until("a data plane", func() bool { return s.pid() != 0 && strings.Contains(s.get(), "<buffers>") })
	var all strings.Builder
	all.WriteString(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">`)
	for i := range 10_000 {
		fmt.Fprintf(&all, `<interface><name>mem%d</name><description>interface number %d</description><type>ianaift:ethernetCsmacd</type><enabled>true</enabled>`+
			`<port xmlns="urn:vrouter:yang:vrouter-port"><driver>memory</driver></port>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.1</ip><prefix-length>24</prefix-length></address></ipv4></interface>`, i, i, i>>8, i&255)
	}
	all.WriteString("</interfaces>")
	edit := "<edit-config><target><candidate/></target><config>" + all.String() + "</config></edit-config>"
	c := s.client(b)
	var used time.Duration
	for b.Loop() {
		at := cpu()
		c.rpc(edit)
		c.rpc("<commit/>")
		used += cpu() - at
		b.StopTimer()
		c.rpc(`<edit-config><target><candidate/></target><default-operation>replace</default-operation><config/></edit-config>`)
		c.rpc("<commit/>")
		b.StartTimer()
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
}
