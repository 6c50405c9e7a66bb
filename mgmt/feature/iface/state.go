package iface

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/iface"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
)

// State adds what RFC 8343, RFC 8344 and vrouter-port tell of interfaces that
// the data plane has. Interfaces that it does not have, as while it starts, are
// without state.
func (b *Binding) State(ctx context.Context, want binding.Want, e *data.Edit) error {
	if !oper.AnyState(want, b.list) {
		return nil
	}
	names := oper.Names(want, b.list)
	if names == nil {
		return nil
	}
	st, err := b.state.State(ctx, &fastpath.Query{Ifaces: names})
	if err != nil {
		return err
	}
	w := oper.New(b.schema, want, e)
	w.InConfig("ietf-interfaces:interfaces", func() {
		for i := range st.Ifaces {
			s := &st.Ifaces[i]
			w.EntryConfig("interface", []string{s.Name}, func() { write(w, s) })
		}
	})
	return w.Err()
}

func write(w *oper.Writer, s *iface.State) {
	up := s.Admin && s.Link
	w.Text("admin-status", upDown(s.Admin))
	w.Text("oper-status", upDown(up))
	w.Time("last-change", s.LastChange)
	w.Uint("if-index", uint64(s.IfIndex))
	if s.MAC != [6]byte{} {
		m := s.MAC
		w.Text("phys-address", fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]))
	}
	if s.Speed != 0 {
		w.Uint("speed", s.Speed)
	}
	w.In("statistics", func() {
		c := &s.Counters
		w.Time("discontinuity-time", c.CreatedAt)
		w.Uint("in-octets", c.RxOctets)
		w.Uint("in-unicast-pkts", c.RxUnicast)
		w.Uint("in-broadcast-pkts", c.RxBroadcast)
		w.Uint("in-multicast-pkts", c.RxMulticast)
		w.Counter32("in-discards", c.RxDiscards)
		w.Counter32("in-errors", c.RxErrors)
		w.Counter32("in-unknown-protos", c.RxUnknownProtos)
		w.Uint("out-octets", c.TxOctets)
		w.Uint("out-unicast-pkts", c.TxUnicast)
		w.Uint("out-broadcast-pkts", c.TxBroadcast)
		w.Uint("out-multicast-pkts", c.TxMulticast)
		w.Counter32("out-discards", c.TxDiscards)
		w.Counter32("out-errors", c.TxErrors)
	})
	if s.Driver != "" {
		w.In("vrouter-port:port", func() {
			w.Text("oper-driver", s.Driver)
			w.Text("oper-device", s.Device)
			if s.Queues > 0 {
				w.Uint("oper-queues", uint64(s.Queues))
				w.Text("shared", strconv.FormatBool(s.Shared))
			}
			if s.Mode != "" {
				w.Text("oper-mode", s.Mode)
				if s.Why != "" {
					w.Text("oper-mode-reason", s.Why)
				}
			}
			w.Uint("in-uncut", s.Counters.RxUncut)
		})
	}
	w.InConfig("ietf-ip:ipv4", func() { addresses(w, nil) })
	w.InConfig("ietf-ip:ipv6", func() {
		status := "preferred"
		if !up {
			status = "inaccessible"
		}
		addresses(w, func(ip string) string {
			a, _ := netip.ParseAddr(ip)
			switch {
			case slices.Contains(s.Duplicate, a):
				return "duplicate"
			case up && slices.Contains(s.Tentative, a):
				return "tentative"
			}
			return status
		})
	})
}

// addresses writes the state of addresses, all of which are configured. Those of
// IPv4 have no status.
func addresses(w *oper.Writer, status func(ip string) string) {
	for _, ip := range w.Keys("address") {
		w.EntryConfig("address", []string{ip}, func() {
			w.Text("origin", "static")
			if status != nil {
				w.Text("status", status(ip))
			}
		})
	}
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
