// Command vrouter-demo shows the main job on real packets: two sites in
// network namespaces, their vRouters configured over NETCONF, an IPsec tunnel
// between them, and a look at what the WAN carries. It ends with status 0 only
// if everything held, and leaves nothing behind.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fatih/color"

	"vrouter/cmd/internal/lab"
	"vrouter/cmd/internal/site"
)

func main() {
	bin := flag.String("bin", "bin", "directory with vrouterd, fastpathd and vrouterctl")
	conf := flag.String("config", "testdata/demo", "directory with site-a.xml and site-b.xml")
	keep := flag.Bool("keep", false, "leave the sites up at the end")
	seconds := flag.Int("seconds", 3, "length of each TCP transfer")
	flag.Parse()
	d := &demo{conf: *conf, seconds: *seconds}
	if err := d.run(*bin, *keep); err != nil {
		fmt.Fprintln(os.Stderr, color.RedString("\nthe demo failed:"), err)
		os.Exit(1)
	}
}

type demo struct {
	conf    string
	seconds int
	p       *site.Pair
	checks  []check
}

type check struct {
	what, result string
	ok           bool
}

func (d *demo) check(ok bool, what, result string) {
	d.checks = append(d.checks, check{what, result, ok})
}

func say(format string, args ...any) {
	fmt.Printf("\n"+color.CyanString(format, args...)+"\n", []any{}...)
}

func (d *demo) run(bin string, keep bool) (err error) {
	if err := lab.Usable(); err != nil {
		return err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	var once sync.Once
	end := func() error { var err error; once.Do(func() { err = l.Close() }); return err }
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-sig
		_ = end()
		os.Exit(130)
	}()
	defer func() {
		if err == nil && keep {
			d.try(bin)
			<-sig // the handler above cleans up
			select {}
		}
		err = errors.Join(err, end())
	}()

	say("Two sites, each a host and a vRouter; between them a WAN that can be tapped:")
	fmt.Print(`
    host-a ──── lan0 ┌──────┐ wan0 ═══════ WAN ═══════ wan0 ┌──────┐ lan0 ──── host-b
   10.1.0.2          │ vr-a │ 192.0.2.1         192.0.2.2   │ vr-b │          10.2.0.2
   2001:db8:1::2     └──────┘ 2001:db8:ff::1  2001:db8:ff::2└──────┘     2001:db8:2::2
`)
	if d.p, err = site.New(l, bin); err != nil {
		return err
	}
	for _, v := range []*site.VRouter{d.p.A, d.p.B} {
		if err := v.Start(); err != nil {
			return err
		}
	}
	if err := d.configure(); err != nil {
		return err
	}
	if err := d.traffic(); err != nil {
		return err
	}
	if err := d.show(); err != nil {
		return err
	}
	return d.verdict()
}

// configure sends each site's XML over NETCONF and commits it.
func (d *demo) configure() error {
	say("Configure both over NETCONF: edit-config into the candidate, then commit")
	for v, file := range map[*site.VRouter]string{d.p.A: "site-a.xml", d.p.B: "site-b.xml"} {
		path := filepath.Join(d.conf, file)
		t := time.Now()
		if _, err := v.Ctl("edit", path, "--commit"); err != nil {
			return err
		}
		fmt.Printf("  vrouterctl edit %s --commit   # %s, %v\n", path, v.Name, time.Since(t).Round(time.Millisecond))
	}
	return nil
}

// traffic sends pings and TCP through, with the WAN recorded.
func (d *demo) traffic() error {
	say("Ping and TCP from host-a to host-b while the WAN is recorded")
	wan, err := d.p.Wan.Capture("wan", "a")
	if err != nil {
		return err
	}
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		out, err := d.p.HostA.Run("ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", to)
		line := "no answer"
		for _, l := range strings.Split(out, "\n") {
			if strings.Contains(l, "packet loss") {
				line = strings.TrimSpace(l)
			}
		}
		d.check(err == nil && strings.Contains(line, " 0% packet loss"), "ping "+to, line)
		fmt.Printf("  ping %-14s %s\n", to, line)
	}
	if _, err := d.p.HostB.Start("iperf3", "iperf3", "-s", "--forceflush"); err != nil {
		return err
	}
	if err := lab.Until(5*time.Second, "iperf3 listens", func() bool {
		out, _ := d.p.HostB.Run("ss", "-Hltn", "sport = :5201")
		return out != ""
	}); err != nil {
		return err
	}
	for _, to := range []string{"10.2.0.2", "2001:db8:2::2"} {
		result, ok := d.iperf(to)
		d.check(ok, "TCP to "+to, result)
		fmt.Printf("  iperf3 %-12s %s\n", to, result)
	}
	wan.Stop()
	return d.wire(wan)
}

// iperf transfers for a while and says how it went.
func (d *demo) iperf(to string) (string, bool) {
	out, err := d.p.HostA.RunFor(time.Duration(d.seconds+30)*time.Second, "iperf3", "-c", to, "-t", fmt.Sprint(d.seconds), "-J")
	var r struct {
		End struct {
			Sent struct {
				Retransmits int `json:"retransmits"`
			} `json:"sum_sent"`
			Received struct {
				Bytes float64 `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
		Error string `json:"error"`
	}
	if e := json.Unmarshal([]byte(out), &r); e != nil || err != nil || r.Error != "" {
		return fmt.Sprintf("failed: %s %v", r.Error, err), false
	}
	return fmt.Sprintf("%.0f Mbit/s, %.1f MB, %d retransmissions", r.End.Received.Rate/1e6, r.End.Received.Bytes/1e6, r.End.Sent.Retransmits), r.End.Received.Bytes > 0
}

// wire says what the WAN has carried.
func (d *demo) wire(wan *lab.Capture) error {
	say("What the WAN carried")
	count := func(filter string) (int, error) { return wan.Count(filter) }
	esp4, err := count("ip proto 50")
	if err != nil {
		return err
	}
	esp6, err := count("ip6 proto 50")
	if err != nil {
		return err
	}
	// ARP, and neighbour discovery (ICMPv6 133 to 137), belong to the link.
	link, err := count("arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)")
	if err != nil {
		return err
	}
	all, err := count("")
	if err != nil {
		return err
	}
	clear := all - esp4 - esp6 - link
	fmt.Printf("  %d ESP over IPv4, %d ESP over IPv6, %d ARP and neighbour discovery, %d anything else\n", esp4, esp6, link, clear)
	d.check(esp4 > 100 && esp6 > 100, "the WAN carries ESP", fmt.Sprintf("%d packets", esp4+esp6))
	d.check(clear == 0, "and nothing in the clear", fmt.Sprintf("%d packets", clear))
	return nil
}

// show reads state back over NETCONF.
func (d *demo) show() error {
	say("State, read back over NETCONF")
	for _, c := range [][]string{{"show", "interfaces"}, {"show", "ipsec", "sa"}, {"show", "drops"}} {
		out, err := d.p.A.Ctl(c...)
		if err != nil {
			return err
		}
		fmt.Printf("  vr-a# vrouterctl %s\n%s\n", strings.Join(c, " "), indent(out))
		if c[1] == "ipsec" {
			d.check(strings.Contains(out, "b-v4-out") && strings.Contains(out, "b-v6-in"), "SA state by NETCONF", "4 SAs")
		}
	}
	return nil
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}

func (d *demo) verdict() error {
	say("Result")
	bad := 0
	for _, c := range d.checks {
		mark := color.GreenString("held  ")
		if !c.ok {
			mark = color.RedString("FAILED")
			bad++
		}
		fmt.Printf("  %s  %-26s %s\n", mark, c.what, c.result)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(d.checks))
	}
	return nil
}

// try says what can be done with the sites that stay up.
func (d *demo) try(bin string) {
	ctl := fmt.Sprintf("%s/vrouterctl --socket %s", bin, d.p.A.Socket)
	fmt.Printf(`
The sites stay up until Ctrl-C. In another terminal, as root:

  ip netns exec %s ping 10.2.0.2
  ip netns exec %s tcpdump -ni a
  %s show ipsec sa
  %s show drops
  %s show config

Take the outbound SA away; pings stop, and the WAN stays without clear text:

  echo '<ipsec-ikeless xmlns="urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">
    <sad><sad-entry nc:operation="delete"><name>b-v4-out</name></sad-entry></sad></ipsec-ikeless>' | %s edit -
  %s diff
  %s commit confirmed --within 30s
`, d.p.HostA.Name, d.p.Wan.Name, ctl, ctl, ctl, ctl, ctl, ctl)
}
