package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

// TestPortThroughput prints what TCP with the kernel's offloads gets through one
// vRouter with each kind of port, and through the kernel's own forwarding in
// the router's place, both ways, with the segments that were sent again and
// where packets were lost: in the router (drop counters), in its sockets'
// rings, on the devices beside it. VROUTER_SOAK=60s makes it as long.
//
// How fast is not judged, for machines differ; that no segment was sent again
// on the router's account is: it lost none and damaged none. Segments are sent
// again all the same where timers run out on a busy machine, and where packets
// overtake each other: a veth gives them to the softirq of the processor that
// the sender is on at the moment, the router's kernel and the kernel's own
// forwarding alike.
func TestPortThroughput(t *testing.T) {
	need(t, "iperf3", "ip", "ethtool")
	var rows []row
	for _, k := range []struct{ name, port string }{
		{"af-packet", "<driver>af-packet</driver>"},
		{"af-packet, tpacket-v3", "<driver>af-packet</driver><ring>tpacket-v3</ring>"},
		{"af-xdp", "<driver>af-xdp</driver>"},
	} {
		t.Run(k.name, func(t *testing.T) {
			x := newLine(t)
			for _, h := range []*lab.NS{x.left, x.right} { // what hosts say in IPv6 by themselves would count as lost
				if out, err := h.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"); err != nil {
					t.Fatal(err, out)
				}
			}
			x.ports(k.port)
			x.reach("at first")
			for _, r := range x.iperf(k.name) {
				if n := r.lost["router"] + r.lost["rings"]; n > 0 {
					t.Errorf("%s %s: the router lost %d packets: %s", r.what, r.way, n, r.detail)
				}
				if r.damaged > 0 {
					t.Errorf("%s %s: %d packets were damaged at a port: %s", r.what, r.way, r.damaged, r.detail)
				}
				rows = append(rows, r)
			}
			x.buffersAccounted()
		})
	}
	t.Run("kernel", func(t *testing.T) { rows = append(rows, newKernelLine(t).iperf("kernel")...) })

	b := &strings.Builder{}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "through\tway\tGbit/s\tsent again\ttimers\tlost: router\trings\tdevices\tsent twice\tout of order\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.what, r.way, r.gbit, r.again, r.probes, r.lost["router"], r.lost["rings"], r.lost["devices"], r.twice, r.reordered)
	}
	w.Flush()
	t.Logf("TCP, %v each way:\n%s", iperfFor(), b)
}

// iperfFor is how long each measurement takes.
func iperfFor() time.Duration {
	if os.Getenv("VROUTER_SOAK") != "" {
		return soak
	}
	return 2 * time.Second
}

// row is a measurement: what was received, and what became of the rest.
type row struct {
	what, way string
	gbit      float64
	again     int            // segments that TCP sent again
	probes    int            // among them, perhaps: sent because a timer ran out, as on a machine short of time
	lost      map[string]int // packets: in the router, in its sockets' rings, on the devices
	damaged   int            // packets that a port could not take or send
	twice     int            // segments that had been sent again for nothing, as their receiver told
	reordered int            // segments that came before one which should have come first
	detail    string         // the counters that moved
}

// newKernelLine is two hosts with the kernel's own forwarding between them.
func newKernelLine(t *testing.T) *line {
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	x := &line{bed: &bed{t: t, Pair: &site.Pair{Lab: l}}}
	router, err := l.NS("router", true)
	if err == nil {
		if x.left, err = l.NS("left", false); err == nil {
			x.right, err = l.NS("right", false)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	x.links(router)
	if err := router.IP("addr add 10.1.0.1/24 dev p1\n addr add 10.2.0.1/24 dev p2"); err != nil {
		t.Fatal(err)
	}
	if out, err := router.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"); err != nil {
		t.Fatal(err, out)
	}
	x.reach("at first")
	x.kernel = router
	return x
}

// iperf measures both ways.
func (x *line) iperf(what string) (rows []row) {
	t := x.t
	t.Helper()
	if _, err := x.right.Start("iperf3", "iperf3", "-s"); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(5*time.Second, "the server", func() bool {
		out, err := x.right.Run("ss", "-ltnH")
		return err == nil && strings.Contains(out, ":5201")
	}); err != nil {
		t.Fatal(err)
	}
	seconds := max(1, int(iperfFor().Seconds()))
	for _, way := range []string{"there", "back"} {
		args := []string{"iperf3", "-c", "10.2.0.2", "-t", fmt.Sprint(seconds), "-J"}
		if way == "back" {
			args = append(args, "-R")
		}
		before := x.counters()
		out, err := x.left.RunFor(time.Duration(seconds+20)*time.Second, args...)
		if err != nil {
			t.Errorf("%s: %v\n%s", what, err, tail(out, 500))
			return rows
		}
		var r struct {
			End struct {
				Received struct {
					Bits float64 `json:"bits_per_second"`
				} `json:"sum_received"`
				Sent struct{ Retransmits int } `json:"sum_sent"`
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		m := row{what: what, way: way, gbit: r.End.Received.Bits / 1e9, again: r.End.Sent.Retransmits}
		m.account(before, x.counters())
		t.Logf("%s, %s: %.2f Gbit/s, %d segments sent again; %s", what, way, m.gbit, m.again, m.detail)
		if m.gbit < 1e-4 {
			t.Errorf("%s: next to nothing gets through", what)
		}
		rows = append(rows, m)
	}
	return rows
}

// account says from the counters before and after what became of packets.
func (r *row) account(before, after map[string]int) {
	r.lost = map[string]int{}
	var moved []string
	for _, k := range slices.Sorted(maps.Keys(after)) {
		n := after[k] - before[k]
		if n == 0 {
			continue
		}
		moved = append(moved, fmt.Sprintf("%s +%d", k, n))
		where, name, _ := strings.Cut(k, " ")
		switch {
		case where == "rings" && (strings.HasSuffix(name, "errors") || strings.HasSuffix(name, "uncut")):
			r.damaged += n
		case where == "rings" || where == "devices" || where == "router":
			r.lost[where] += n
		case strings.HasSuffix(name, "TcpInCsumErrors"):
			r.damaged += n
		case strings.HasSuffix(name, "TCPLossProbes") || strings.HasSuffix(name, "TCPTimeouts"):
			r.probes += n
		case strings.HasSuffix(name, "TCPDSACKRecv"):
			r.twice += n
		case strings.HasSuffix(name, "TCPOFOQueue"):
			r.reordered += n
		}
	}
	if r.detail = strings.Join(moved, ", "); r.detail == "" {
		r.detail = "no counter of a loss moved"
	}
}

// counters are all that can tell of a packet's end between two hosts: "router",
// "rings", "devices" and "hosts", each with a name.
func (x *line) counters() map[string]int {
	t := x.t
	t.Helper()
	c := map[string]int{}
	router := x.kernel
	if x.v != nil {
		router = x.v.NS
		for _, line := range strings.Split(x.ctl(x.v, "show", "drops"), "\n") {
			// What is normal is no part of the connection: what hosts say unasked.
			if f := strings.Fields(line); len(f) > 3 && f[0] != "REASON" && f[1] != "normal" {
				c["router "+f[0]], _ = strconv.Atoi(f[2])
			}
		}
		out := x.get("")
		for _, i := range regexp.MustCompile(`(?s)<interface>.*?</interface>`).FindAllString(out, -1) {
			name := regexp.MustCompile(`<name>([^<]*)`).FindStringSubmatch(i)
			for _, m := range regexp.MustCompile(`<(in-discards|in-errors|out-discards|out-errors|in-uncut)>(\d+)`).FindAllStringSubmatch(i, -1) {
				c["rings "+name[1]+" "+m[1]], _ = strconv.Atoi(m[2])
			}
		}
	}
	// What found no room in the kernel's queue between softirqs (the machine's,
	// not the namespace's: other tests' losses are among them).
	soft, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(soft), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			n, _ := strconv.ParseUint(f[1], 16, 32)
			c["devices softnet dropped"] += int(n)
		}
	}
	for n, devices := range map[*lab.NS][]string{x.left: {"eth0"}, x.right: {"eth0"}, router: {"p1", "p2"}} {
		which := map[*lab.NS]string{x.left: "left", x.right: "right"}[n]
		for _, d := range devices {
			out, err := n.Run("ip", "-s", "-j", "link", "show", "dev", d)
			var l []struct {
				Stats map[string]map[string]int `json:"stats64"`
			}
			if err != nil || json.Unmarshal([]byte(out), &l) != nil || len(l) != 1 {
				t.Fatalf("counters of %s: %v\n%s", d, err, out)
			}
			for _, dir := range []string{"rx", "tx"} {
				for _, k := range []string{"dropped", "errors"} {
					c["devices "+which+d+" "+dir+" "+k] = l[0].Stats[dir][k]
				}
			}
		}
		if which == "" {
			continue
		}
		out, err := n.Run("cat", "/proc/net/snmp", "/proc/net/netstat")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out, "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			proto, names, _ := strings.Cut(lines[i], ":")
			_, values, _ := strings.Cut(lines[i+1], ":")
			v := strings.Fields(values)
			for k, name := range strings.Fields(names) {
				if slices.Contains([]string{"RetransSegs", "InCsumErrors", "TCPDSACKRecv", "TCPOFOQueue", "TCPOFODrop", "TCPBacklogDrop", "TCPRcvQDrop", "TCPTimeouts", "TCPSpuriousRTOs", "TCPLossProbes"}, name) && k < len(v) {
					c["hosts "+which+" "+proto+name], _ = strconv.Atoi(v[k])
				}
			}
		}
	}
	return c
}
