package main

import (
	"strconv"

	"vrouter/mgmt/data"
)

func interfaces(root *data.Container) *table {
	t := newTable("no interfaces", column{"INTERFACE", text}, column{"ADMIN", state}, column{"OPER", state}, column{"DRIVER", text}, column{"MTU", number},
		column{"MAC", text}, column{"ADDRESSES", text}, column{"RX PKTS", number}, column{"RX BYTES", number}, column{"RX DROPS", number},
		column{"TX PKTS", number}, column{"TX BYTES", number}, column{"TX DROPS", number})
	const addresses = 6
	for _, i := range entries(sub(root, "interfaces"), "interface") {
		var addrs []string
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, a := range entries(sub(i, family), "address") {
				s := val(a, "ip") + "/" + val(a, "prefix-length")
				switch why := val(a, "status"); why {
				case "tentative", "duplicate":
					s += " " + why
				}
				addrs = append(addrs, s)
			}
		}
		addrs = append(addrs, "")
		s := sub(i, "statistics") // not there while there is no data plane
		t.add(val(i, "name"), or(val(i, "admin-status"), admin(i)), val(i, "oper-status"), or(val(i, "port", "oper-driver"), val(i, "port", "driver")),
			val(i, "port", "mtu"), val(i, "phys-address"), addrs[0],
			packets(s, "in"), count(s, "in-octets"), lost(s, "in"), packets(s, "out"), count(s, "out-octets"), lost(s, "out"))
		for _, a := range addrs[1:] {
			if a != "" {
				t.more(addresses, a)
			}
		}
	}
	return t
}

// admin is what is configured, while there is no state.
func admin(i *data.Container) string {
	if val(i, "enabled") == "false" {
		return "down"
	}
	return "up"
}

// packets adds the counters of RFC 8343, which counts them by kind of address.
func packets(s *data.Container, way string) string {
	return sum(s, way+"-unicast-pkts", way+"-multicast-pkts", way+"-broadcast-pkts")
}

// lost adds what was discarded, what was damaged and what nobody knew.
func lost(s *data.Container, way string) string {
	return sum(s, way+"-discards", way+"-errors", way+"-unknown-protos")
}

// sum adds counters; "" where there are none.
func sum(s *data.Container, counters ...string) string {
	if s == nil {
		return ""
	}
	var n uint64
	for _, c := range counters {
		n += num(s, c)
	}
	return strconv.FormatUint(n, 10)
}

func routes(root *data.Container) *table {
	t := newTable("no routes", column{"DESTINATION", text}, column{"NEXT HOP", text}, column{"INTERFACE", text}, column{"SOURCE", text},
		column{"PREFERENCE", number}, column{"ACTIVE", state})
	for _, rib := range entries(sub(root, "routing", "ribs"), "rib") {
		for _, r := range entries(sub(rib, "routes"), "route") {
			hop := sub(r, "next-hop")
			active := "no"
			if has(r, "active") {
				active = "yes"
			}
			way, link := or(val(hop, "next-hop-address"), val(hop, "special-next-hop"), "connected"), val(hop, "outgoing-interface")
			several := entries(sub(hop, "next-hop-list"), "next-hop")
			if len(several) > 0 {
				way, link = oneHop(several[0])
			}
			t.add(val(r, "destination-prefix"), way, link, bare(val(r, "source-protocol")), val(r, "route-preference"), active)
			for _, h := range several[min(1, len(several)):] {
				way, link := oneHop(h)
				t.below(map[int]string{1: way, 2: link})
			}
		}
	}
	return t
}

// oneHop is one of several next hops, with its share where it is not 1.
func oneHop(h *data.Container) (way, link string) {
	way = or(val(h, "address"), "connected")
	if w := val(h, "weight"); w != "" && w != "1" {
		way += " weight " + w
	}
	return way, val(h, "outgoing-interface")
}

func neighbours(root *data.Container) *table {
	t := newTable("no neighbours", column{"INTERFACE", text}, column{"ADDRESS", text}, column{"MAC", text}, column{"ORIGIN", text}, column{"STATE", state})
	for _, i := range entries(sub(root, "interfaces"), "interface") {
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, n := range entries(sub(i, family), "neighbor") {
				t.add(val(i, "name"), val(n, "ip"), val(n, "link-layer-address"), or(val(n, "origin"), "static"), val(n, "state"))
			}
		}
	}
	return t
}
