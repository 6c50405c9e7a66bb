package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"vrouter/mgmt/data"
)

const (
	nsIf  = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
	nsRt  = "urn:ietf:params:xml:ns:yang:ietf-routing"
	nsSec = "urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"
	nsFP  = "urn:vrouter:yang:vrouter-fastpath"
	nsSAL = "urn:vrouter:yang:vrouter-sal"
)

// views are the things that can be shown, in the order of the help text.
var views = []view{
	{use: "interfaces", short: "interfaces with state, addresses and counters", aliases: []string{"interface", "int"},
		filter: `<interfaces xmlns="` + nsIf + `"/>`, table: interfaces,
		only: func(n string) string {
			return `<interfaces xmlns="` + nsIf + `"><interface><name>` + n + `</name></interface></interfaces>`
		}},
	{use: "routes", short: "the routing tables", aliases: []string{"route"}, filter: `<routing xmlns="` + nsRt + `"><ribs/></routing>`, table: routes},
	{use: "neighbours", short: "ARP and neighbour discovery", aliases: []string{"neighbors", "neighbour", "arp", "nd"},
		filter: `<interfaces xmlns="` + nsIf + `"><interface><name/><ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><neighbor/></ipv4>` +
			`<ipv6 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><neighbor/></ipv6></interface></interfaces>`, table: neighbours},
	{use: "ipsec/sa", short: "security associations", aliases: []string{"sas"}, filter: secFilter("<sad/>"), table: sas,
		only: func(n string) string { return secFilter("<sad><sad-entry><name>" + n + "</name></sad-entry></sad>") }},
	{use: "ipsec/policy", short: "the security policy database, in order", aliases: []string{"policies", "spd"}, filter: secFilter("<spd/>"), table: policies},
	{use: "drops", short: "why packets died, and where they came in", filter: `<fastpath xmlns="` + nsFP + `"><drops/></fastpath>`, table: drops},
	{use: "fastpath", short: "workers, buffers, flow cache", filter: `<fastpath xmlns="` + nsFP + `"><process/><workers/><buffers/><flow-cache/></fastpath>`, table: fastpath},
	{use: "engines", short: "crypto engines of the acceleration layer", filter: `<sal xmlns="` + nsSAL + `"/>`, table: engines},
	{use: "commits", short: "versions of the running configuration, to roll back to", filter: `<commits xmlns="urn:vrouter:yang:vrouter-commit"/>`, table: commits},
	{use: "sessions", short: "NETCONF sessions",
		filter: `<netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><sessions/></netconf-state>`, table: sessions},
}

func secFilter(s string) string {
	return `<ipsec-ikeless xmlns="` + nsSec + `">` + s + `</ipsec-ikeless>`
}

func interfaces(root *data.Container) *table {
	t := &table{head: []string{"INTERFACE", "ADMIN", "OPER", "DRIVER", "MTU", "MAC", "ADDRESSES", "RX PKTS", "RX BYTES", "TX PKTS", "TX BYTES", "DROPS"},
		empty: "no interfaces", right: map[int]bool{4: true, 7: true, 8: true, 9: true, 10: true, 11: true}}
	for _, i := range entries(sub(root, "interfaces"), "interface") {
		var addrs []string
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, a := range entries(sub(i, family), "address") {
				addrs = append(addrs, val(a, "ip")+"/"+val(a, "prefix-length"))
			}
		}
		if len(addrs) == 0 {
			addrs = []string{"-"}
		}
		s := sub(i, "statistics")
		t.add(val(i, "name"), or(val(i, "admin-status"), admin(i)), or(val(i, "oper-status"), "-"), val(i, "port", "driver"), val(i, "port", "mtu"),
			or(val(i, "phys-address"), "-"), addrs[0], or(unicast(s, "in"), "0"), or(val(s, "in-octets"), "0"), or(unicast(s, "out"), "0"),
			or(val(s, "out-octets"), "0"), or(val(s, "in-discards"), "0"))
		for _, a := range addrs[1:] {
			t.add("", "", "", "", "", "", a, "", "", "", "", "")
		}
	}
	return t
}

func admin(i *data.Container) string {
	if val(i, "enabled") == "false" {
		return "down"
	}
	return "up"
}

// unicast adds the packet counters of RFC 8343, which counts them apart.
func unicast(s *data.Container, way string) string {
	var n uint64
	for _, kind := range []string{"unicast", "multicast", "broadcast"} {
		var x uint64
		fmt.Sscan(val(s, way+"-"+kind+"-pkts"), &x)
		n += x
	}
	return fmt.Sprint(n)
}

func routes(root *data.Container) *table {
	t := &table{head: []string{"DESTINATION", "NEXT HOP", "INTERFACE", "SOURCE", "ACTIVE"}, empty: "no routes"}
	for _, rib := range entries(sub(root, "routing", "ribs"), "rib") {
		for _, r := range entries(sub(rib, "routes"), "route") {
			nh := sub(r, "next-hop")
			active := "no"
			if n := r.S.Child(nil, []byte("active")); n != nil && r.Child(n) != nil {
				active = "yes"
			}
			t.add(val(r, "destination-prefix"), or(val(nh, "next-hop-address"), val(nh, "special-next-hop"), "connected"),
				or(val(nh, "outgoing-interface"), "-"), bare(val(r, "source-protocol")), active)
		}
	}
	return t
}

func neighbours(root *data.Container) *table {
	t := &table{head: []string{"INTERFACE", "ADDRESS", "MAC", "ORIGIN", "STATE"}, empty: "no neighbours"}
	for _, i := range entries(sub(root, "interfaces"), "interface") {
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, n := range entries(sub(i, family), "neighbor") {
				t.add(val(i, "name"), val(n, "ip"), or(val(n, "link-layer-address"), "-"), or(val(n, "origin"), "static"), or(val(n, "state"), "-"))
			}
		}
	}
	return t
}

func sas(root *data.Container) *table {
	t := &table{head: []string{"SA", "SPI", "REQID", "TUNNEL", "SELECTOR", "SEQUENCE", "PACKETS", "BYTES", "REPLAYED", "BAD ICV", "ENGINE"},
		empty: "no SAs", right: map[int]bool{5: true, 6: true, 7: true, 8: true, 9: true}}
	for _, s := range entries(sub(root, "ipsec-ikeless", "sad"), "sad-entry") {
		c, st := sub(s, "ipsec-sa-config"), sub(s, "ipsec-sa-state")
		dropped, failed := val(st, "replay-stats", "packet-dropped"), val(st, "replay-stats", "failed")
		t.add(val(s, "name"), hex(val(c, "spi")), or(val(s, "reqid"), "-"), val(c, "tunnel", "local")+" → "+val(c, "tunnel", "remote"),
			val(c, "traffic-selector", "local-prefix")+" → "+val(c, "traffic-selector", "remote-prefix"),
			or(val(st, "replay-stats", "seq-number-counter"), val(st, "replay-stats", "replay-window", "t"), "0"),
			or(val(s, "counters", "packets"), "0"), or(val(s, "counters", "bytes"), "0"), or(dropped, "0"), or(failed, "0"),
			strings.TrimSpace(val(s, "placement", "engine")+" "+val(s, "placement", "mode")))
	}
	return t
}

func hex(s string) string {
	var n uint32
	if _, err := fmt.Sscan(s, &n); err != nil {
		return s
	}
	return fmt.Sprintf("%#08x", n)
}

func policies(root *data.Container) *table {
	t := &table{head: []string{"POLICY", "DIRECTION", "ACTION", "REQID", "LOCAL", "REMOTE", "PROTOCOL", "PACKETS", "BYTES"},
		empty: "no policies: IPsec is off, everything passes", right: map[int]bool{7: true, 8: true}}
	for _, p := range entries(sub(root, "ipsec-ikeless", "spd"), "spd-entry") {
		c := sub(p, "ipsec-policy-config")
		s := sub(c, "traffic-selector")
		t.add(val(p, "name"), val(p, "direction"), val(c, "processing-info", "action"), or(val(p, "reqid"), "-"),
			val(s, "local-prefix")+ports(s, "local-ports"), val(s, "remote-prefix")+ports(s, "remote-ports"), or(val(s, "inner-protocol"), "any"),
			or(val(p, "counters", "packets"), "0"), or(val(p, "counters", "bytes"), "0"))
	}
	return t
}

func ports(s *data.Container, list string) string {
	var l []string
	for _, r := range entries(s, list) {
		if a, b := val(r, "start"), val(r, "end"); a == b {
			l = append(l, a)
		} else {
			l = append(l, a+"-"+b)
		}
	}
	if len(l) == 0 {
		return ""
	}
	return ":" + strings.Join(l, ",")
}

func drops(root *data.Container) *table {
	t := &table{head: []string{"REASON", "SEVERITY", "PACKETS", "IN ON", "DESCRIPTION"}, empty: "no packet was dropped", right: map[int]bool{2: true}}
	for _, d := range entries(sub(root, "fastpath", "drops"), "drop") {
		var on []string
		for _, i := range entries(d, "interface") {
			on = append(on, val(i, "name")+" "+val(i, "packets"))
		}
		if n := val(d, "packets"); n != "" && n != "0" {
			t.add(val(d, "reason"), val(d, "severity"), n, or(strings.Join(on, ", "), "-"), val(d, "description"))
		}
	}
	return t
}

func fastpath(root *data.Container) *table {
	t := &table{head: []string{"WHAT", "VALUE"}, empty: "the data plane is not running"}
	f := sub(root, "fastpath")
	line := func(name string, path ...string) {
		if v := val(f, path...); v != "" {
			t.add(name, v)
		}
	}
	line("process id", "process", "pid")
	line("started", "process", "start-time")
	line("configuration", "process", "revision")
	line("restarts", "process", "restarts")
	for _, w := range entries(f, "workers") {
		t.add("worker "+val(w, "id"), fmt.Sprintf("%s packets in %s bursts, slept %s times", or(val(w, "packets"), "0"), or(val(w, "bursts"), "0"), or(val(w, "sleeps"), "0")))
	}
	for _, l := range []string{"total", "free", "in-use", "cached", "ports", "waiting", "in-flight"} {
		line("buffers "+l, "buffers", l)
	}
	for _, l := range []string{"size", "entries", "hits", "misses"} {
		line("flow cache "+l, "flow-cache", l)
	}
	return t
}

func engines(root *data.Container) *table {
	t := &table{head: []string{"ENGINE", "KIND", "READY", "MODES", "ALGORITHMS", "SAS", "ERRORS"}, empty: "no engines"}
	for _, e := range entries(sub(root, "sal"), "engine") {
		ready := "no"
		if val(e, "ready") == "true" {
			ready = "yes"
		}
		t.add(val(e, "name"), val(e, "kind"), ready, leafList(e, "mode"), leafList(e, "algorithm"), or(val(e, "sas"), "0"), or(val(e, "errors"), "0"))
	}
	return t
}

func leafList(c *data.Container, name string) string {
	n := c.S.Child(nil, []byte(name))
	if n == nil {
		return ""
	}
	var out []string
	if l := c.List(n); l != nil {
		l.Each(func(_ string, x data.Node) bool {
			if leaf, ok := x.(*data.Leaf); ok {
				out = append(out, leaf.Value.Text)
			}
			return true
		})
	}
	return strings.Join(out, " ")
}

func sessions(root *data.Container) *table {
	t := &table{head: []string{"SESSION", "TRANSPORT", "USER", "FROM", "SINCE", "RPCS", "BAD RPCS"}, empty: "no sessions", right: map[int]bool{5: true, 6: true}}
	for _, s := range entries(sub(root, "netconf-state", "sessions"), "session") {
		t.add(val(s, "session-id"), bare(val(s, "transport")), val(s, "username"), or(val(s, "source-host"), "-"), val(s, "login-time"),
			or(val(s, "in-rpcs"), "0"), or(val(s, "in-bad-rpcs"), "0"))
	}
	return t
}

func commits(root *data.Container) *table {
	t := &table{head: []string{"BACK", "VERSION", "TIME", "KIND", "USER", "SESSION"}, empty: "no versions", right: map[int]bool{0: true, 1: true}}
	l := entries(sub(root, "commits"), "commit")
	slices.SortFunc(l, func(a, b *data.Container) int {
		var x, y uint64
		fmt.Sscan(val(a, "sequence"), &x)
		fmt.Sscan(val(b, "sequence"), &y)
		return cmp.Compare(y, x)
	})
	for i, c := range l {
		t.add(fmt.Sprint(i), val(c, "sequence"), val(c, "time"), val(c, "kind"), or(val(c, "user"), "-"), or(val(c, "session-id"), "-"))
	}
	return t
}
