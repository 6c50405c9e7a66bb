package main

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"

	"vrouter/mgmt/data"
)

func sas(root *data.Container) *table {
	t := newTable("no SAs", column{"SA", text}, column{"DIRECTION", text}, column{"SPI", text}, column{"REQID", text}, column{"TUNNEL", text},
		column{"ENCAPSULATION", text}, column{"PEER", text}, column{"MTU", text}, column{"SELECTOR", text}, column{"SEQUENCE", number}, column{"PACKETS", number}, column{"BYTES", number}, column{"DROPPED", text}, column{"ENGINE", text},
		column{"LIFETIME", text})
	for _, s := range entries(sub(root, "ipsec-ikeless", "sad"), "sad-entry") {
		c, replay := sub(s, "ipsec-sa-config"), sub(s, "ipsec-sa-state", "replay-stats")
		t.add(val(s, "name"), direction(s, replay), spi(num(c, "spi")), val(s, "reqid"), tunnel(sub(c, "tunnel")),
			encapsulation(c), peer(sub(s, "peer")), mtu(sub(s, "mtu")), selector(sub(c, "traffic-selector")), or(val(replay, "seq-number-counter"), val(replay, "replay-window", "t")),
			count(s, "counters", "packets"), count(s, "counters", "bytes"), dropped(s),
			strings.TrimSpace(val(s, "placement", "engine")+" "+val(s, "placement", "mode")), lifetime(s))
	}
	return t
}

// tunnel is the ends of a tunnel, which transport mode has not.
func tunnel(t *data.Container) string {
	if t == nil {
		return "transport"
	}
	return val(t, "local") + " → " + val(t, "remote")
}

// direction is what is configured or what the state of its sequence numbers
// shows: an SA that receives has a replay window.
func direction(sa, replay *data.Container) string {
	switch d := val(sa, "direction"); {
	case d != "":
		return d
	case has(replay, "seq-number-counter"):
		return "outbound"
	case has(replay, "replay-window"):
		return "inbound"
	}
	return ""
}

// encapsulation is what is around ESP: UDP, with the ports of the packets.
func encapsulation(sa *data.Container) string {
	e := sub(sa, "encapsulation-type")
	if val(e, "espencap") != "espinudp" {
		return ""
	}
	return "udp " + or(val(e, "sport"), "4500") + " → " + or(val(e, "dport"), "4500")
}

// peer is where the peer of an SA in UDP is, and since when, if it was not always.
func peer(p *data.Container) string {
	if !has(p, "address") {
		return ""
	}
	text := net.JoinHostPort(val(p, "address"), val(p, "port"))
	if at := val(p, "moved-at"); at != "" {
		text += " since " + at
	}
	return text
}

// mtu is what outer packets may have, and inner ones for it.
func mtu(m *data.Container) string {
	if !has(m, "outer") {
		return ""
	}
	text := val(m, "outer")
	if has(m, "learnt") {
		text += " learnt"
	}
	return text + ", inner " + val(m, "inner")
}

// spi writes an SPI as packet captures do.
func spi(n uint64) string { return fmt.Sprintf("0x%08x", n) }

// lifetime says what of an SA's lifetimes is over.
func lifetime(sa *data.Container) string {
	l := sub(sa, "lifetime")
	if l == nil {
		return ""
	}
	over := strings.Join(values(l, "expired"), ", ")
	if val(l, "ended") == "true" {
		return "ended: " + over
	}
	return over
}

// dropped lists the packets of an SA that died, by reason.
func dropped(sa *data.Container) string {
	c := sub(sa, "counters")
	if c == nil {
		return ""
	}
	var l []string
	for _, e := range entries(c, "error") {
		l = append(l, val(e, "reason")+" "+count(e, "packets"))
	}
	return or(strings.Join(l, ", "), "0")
}

// latenesses is the histograms of inbound SAs.
func latenesses(root *data.Container) *table {
	t := newTable("no SA has received anything", column{"SA", text}, column{"WINDOW", number}, column{"NEEDED", number}, column{"BEHIND", number},
		column{"PACKETS", number}, column{"DROPPED", number})
	for _, s := range entries(sub(root, "ipsec-ikeless", "sad"), "sad-entry") {
		late := sub(s, "lateness")
		if late == nil {
			continue
		}
		l := entries(late, "bucket")
		slices.SortFunc(l, func(a, b *data.Container) int { return cmp.Compare(num(a, "from"), num(b, "from")) })
		name, window, needed := val(s, "name"), or(val(s, "ipsec-sa-config", "anti-replay-window-size"), "64"), or(val(late, "window-needed"), "more than 32768")
		if window == "0" {
			window = "off"
		}
		for _, x := range l {
			behind := val(x, "from")
			switch to := val(x, "to"); to {
			case behind:
			case "":
				behind += " and more"
			default:
				behind += " to " + to
			}
			t.add(name, window, needed, behind, count(x, "packets"), count(x, "dropped"))
		}
	}
	return t
}

func policies(root *data.Container) *table {
	t := newTable("no policies: IPsec is off, everything passes", column{"POLICY", text}, column{"DIRECTION", text}, column{"ACTION", state}, column{"REQID", text},
		column{"SELECTOR", text}, column{"TUNNEL", text}, column{"PACKETS", number}, column{"BYTES", number})
	for _, p := range entries(sub(root, "ipsec-ikeless", "spd"), "spd-entry") {
		c := sub(p, "ipsec-policy-config")
		ends := ""
		if val(c, "processing-info", "action") == "protect" {
			ends = tunnel(sub(c, "processing-info", "ipsec-sa-cfg", "tunnel"))
		}
		t.add(val(p, "name"), val(p, "direction"), or(val(c, "processing-info", "action"), "discard"), val(p, "reqid"),
			selector(sub(c, "traffic-selector")), ends, count(p, "counters", "packets"), count(p, "counters", "bytes"))
	}
	return t
}

// selector writes a traffic selector: prefixes, with ports and protocol where
// there are some.
func selector(s *data.Container) string {
	p := val(s, "inner-protocol")
	ports := ports
	if p == "1" || p == "58" {
		ports = messages
	}
	text := val(s, "local-prefix") + ports(s, "local-ports") + " → " + val(s, "remote-prefix") + ports(s, "remote-ports")
	if p != "" && p != "any" {
		text += " protocol " + p
	}
	return text
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
	return " ports " + strings.Join(l, ",")
}

// messages are ICMP types, with codes after a slash where not all of them are meant.
func messages(s *data.Container, list string) string {
	var l []string
	for _, r := range entries(s, list) {
		a, b := num(r, "start"), num(r, "end")
		switch whole := a&255 == 0 && b&255 == 255; {
		case a == 0 && b == 0: // any
			return ""
		case whole && a>>8 == b>>8:
			l = append(l, fmt.Sprint(a>>8))
		case whole:
			l = append(l, fmt.Sprintf("%d-%d", a>>8, b>>8))
		case a == b:
			l = append(l, fmt.Sprintf("%d/%d", a>>8, a&255))
		default:
			l = append(l, fmt.Sprintf("%d/%d-%d/%d", a>>8, a&255, b>>8, b&255))
		}
	}
	if len(l) == 0 {
		return ""
	}
	return " types " + strings.Join(l, ",")
}
