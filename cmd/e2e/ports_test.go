package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// line is one vRouter between two hosts, with a port to each.
type line struct {
	*bed
	v           *site.VRouter
	left, right *lab.NS
	kernel      *lab.NS // in the place of v
}

// newLine makes hosts and router; the ports are made by links and configured by
// ports.
func newLine(t *testing.T) *line {
	t.Helper()
	need(t, "ping")
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	x := &line{bed: &bed{t: t}}
	t.Cleanup(func() {
		if t.Failed() && x.v != nil {
			for _, f := range []string{x.v.Proc.Log, filepath.Join(x.v.Dir, "run", "fastpathd.log")} {
				if text, err := os.ReadFile(f); err == nil {
					t.Logf("%s:\n%s", filepath.Base(f), tail(string(text), 6000))
				}
			}
			for _, what := range []string{"drops", "interfaces", "fastpath"} {
				out, _ := x.v.Ctl("show", what)
				t.Logf("%s:\n%s", what, out)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var ns [3]*lab.NS
	for i, n := range []string{"left", "router", "right"} {
		if ns[i], err = l.NS(n, i == 1); err != nil {
			t.Fatal(err)
		}
	}
	x.left, x.right = ns[0], ns[2]
	x.bed.Pair = &site.Pair{Lab: l}
	x.links(ns[1])
	x.v = site.Single(l, ns[1], "router", binDir)
	if err := x.v.Start(); err != nil {
		t.Fatal(err)
	}
	x.Pair = &site.Pair{Lab: l, A: x.v, B: x.v}
	return x
}

// links joins hosts and router by veth pairs.
func (x *line) links(router *lab.NS) {
	x.t.Helper()
	for i, h := range []*lab.NS{x.left, x.right} {
		if err := x.Lab.Link(h, "eth0", router, fmt.Sprintf("p%d", i+1)); err != nil {
			x.t.Fatal(err)
		}
		if err := h.IP(fmt.Sprintf("addr add 10.%d.0.2/24 dev eth0\n route add default via 10.%d.0.1", i+1, i+1)); err != nil {
			x.t.Fatal(err)
		}
	}
}

const ifaceXML = `<interface xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type"><name>p%d</name><type>ianaift:ethernetCsmacd</type>
<port xmlns="urn:vrouter:yang:vrouter-port">%s</port>
<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><forwarding>true</forwarding><address><ip>10.%d.0.1</ip><prefix-length>24</prefix-length></address></ipv4></interface>`

func (x *line) ports(port string) {
	x.t.Helper()
	xml := ""
	for i := 1; i <= 2; i++ {
		xml += fmt.Sprintf(ifaceXML, i, port, i)
	}
	x.edit(x.v, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`+xml+`</interfaces>`)
}

// reach waits until the left host has an answer from the right one.
func (x *line) reach(what string) {
	x.t.Helper()
	start := time.Now()
	if err := lab.Until(10*time.Second, "ping "+what, func() bool {
		_, err := x.left.Run("ping", "-n", "-c", "1", "-W", "1", "10.2.0.2")
		return err == nil
	}); err != nil {
		x.t.Fatal(err)
	}
	x.t.Logf("%s: an answer after %v", what, time.Since(start).Round(time.Millisecond))
}

// status waits for the oper-status of an interface.
func (x *line) status(name, want string) {
	x.t.Helper()
	last := ""
	if err := lab.Until(10*time.Second, name+" "+want, func() bool {
		last = x.get(`<interface><name>` + name + `</name></interface>`)
		return strings.Contains(last, "<oper-status>"+want+"</oper-status>")
	}); err != nil {
		x.t.Fatalf("%v\n%s", err, last)
	}
}

// get reads the state of interfaces.
func (x *line) get(filter string) string {
	x.t.Helper()
	f := x.Lab.Path("get.xml")
	if err := os.WriteFile(f, []byte(`<get xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><filter><interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`+
		filter+`</interfaces></filter></get>`), 0o600); err != nil {
		x.t.Fatal(err)
	}
	return x.ctl(x.v, "rpc", f)
}

// TestPortsComeBack takes the devices of all kinds of ports away and gives them
// back: the interfaces follow, traffic goes on, no buffer is lost, and nothing is
// restarted.
func TestPortsComeBack(t *testing.T) {
	for name, port := range map[string]string{
		"af-packet":           "<driver>af-packet</driver>",
		"af-packet, 2 queues": "<driver>af-packet</driver><queues>2</queues>",
		"af-xdp":              "<driver>af-xdp</driver>",
		"af-xdp, 2 queues":    "<driver>af-xdp</driver><queues>2</queues>",
	} {
		t.Run(name, func(t *testing.T) {
			x := newLine(t)
			x.ports(port)
			x.reach("at first")
			pid, err := x.v.FastPathPID()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"down", "up"} {
				if err := x.v.NS.IP("link set dev p1 " + s); err != nil {
					t.Fatal(err)
				}
				x.status("p1", s)
			}
			x.reach("after down and up")
			if err := x.v.NS.IP("link del dev p1\n link del dev p2"); err != nil {
				t.Fatal(err)
			}
			x.status("p1", "down")
			x.status("p2", "down")
			x.links(x.v.NS)
			x.status("p1", "up")
			x.status("p2", "up")
			x.reach("with new devices")
			x.buffersAccounted()
			if now, err := x.v.FastPathPID(); err != nil || now != pid {
				t.Errorf("the data plane was process %d, and is %d, %v", pid, now, err)
			}
		})
	}
	t.Run("tap", func(t *testing.T) {
		x := newLine(t)
		x.edit(x.v, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`+
			fmt.Sprintf(strings.Replace(ifaceXML, "<name>p%d", "<name>tap%d", 1), 3, "<driver>tap</driver>", 3)+`</interfaces>`)
		ping := func(what string) {
			t.Helper()
			if err := lab.Until(10*time.Second, "ping over the tap device "+what, func() bool {
				_ = x.v.NS.IP("addr replace 10.3.0.2/24 dev tap3")
				_, err := x.v.NS.Run("ping", "-n", "-c", "1", "-W", "1", "10.3.0.1")
				return err == nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		ping("at first")
		if err := x.v.NS.IP("link del dev tap3"); err != nil {
			t.Fatal(err)
		}
		ping("made anew")
		x.status("tap3", "up")
		x.buffersAccounted()
	})
}

// TestPcapPort replays a capture through the router and looks at what it wrote.
func TestPcapPort(t *testing.T) {
	need(t, "tshark", "text2pcap")
	x := newLine(t)
	dir := filepath.Join(x.v.Dir, "state", "fastpath", "captures")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	x.ports("<driver>af-packet</driver>")
	x.reach("between the hosts")
	edit := func(read string) error {
		return x.tryEdit(x.v, `<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces">`+
			fmt.Sprintf(strings.Replace(ifaceXML, "<name>p%d", "<name>replay%d", 1), 3,
				"<driver>pcap</driver><mac-address>02:00:00:00:00:33</mac-address><pcap><read>"+read+"</read><pace>flat-out</pace><rounds>5</rounds><write>out.pcapng</write></pcap>", 3)+`</interfaces>`)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad.pcap"), []byte("no capture at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit("bad.pcap"); err == nil || !strings.Contains(err.Error(), "at byte 0") || !strings.Contains(err.Error(), "vrouter-port:port/pcap") {
		t.Errorf("a file that is no capture: %v", err)
	}
	// An ARP request of 10.3.0.9 for the port's address, five times.
	hex := "0000 ff ff ff ff ff ff 02 00 00 00 00 09 08 06 00 01 08 00 06 04 00 01 02 00 00 00 00 09 0a 03 00 09 00 00 00 00 00 00 0a 03 00 01\n"
	if err := os.WriteFile(x.Lab.Path("arp.txt"), []byte(hex), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := x.v.NS.Run("text2pcap", "-q", x.Lab.Path("arp.txt"), filepath.Join(dir, "in.pcapng")); err != nil {
		t.Fatalf("text2pcap: %v\n%s", err, out)
	}
	if err := edit("in.pcapng"); err != nil {
		t.Fatal(err)
	}
	out := ""
	if err := lab.Until(10*time.Second, "five answers in the capture", func() bool {
		out, _ = x.v.NS.Run("tshark", "-r", filepath.Join(dir, "out.pcapng"), "-Y", "arp.opcode == 2 && arp.dst.proto_ipv4 == 10.3.0.9", "-T", "fields", "-e", "arp.src.hw_mac", "-e", "frame.interface_name")
		return strings.Count(out, "02:00:00:00:00:33\treplay3") == 5
	}); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	x.buffersAccounted()
}
