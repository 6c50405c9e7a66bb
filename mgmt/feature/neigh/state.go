package neigh

import (
	"context"
	"fmt"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/neigh"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
)

var reach = [...]string{neigh.Incomplete: "incomplete", neigh.Reachable: "reachable", neigh.Stale: "stale",
	neigh.Delay: "delay", neigh.Probe: "probe", neigh.Failed: ""}

var origin = [...]string{neigh.Static: "static", neigh.Dynamic: "dynamic"}

// State adds the neighbours that the data plane knows, those that it learnt as
// entries of their own. Those that do not answer are left out, and so are IPv4
// neighbours whose address on the link is not known yet: RFC 8344 has no way to
// say so.
func (b *Binding) State(ctx context.Context, want binding.Want, e *data.Edit) error {
	if !want.Subtree(b.list4) && !want.Subtree(b.list6) {
		return nil
	}
	names := oper.Names(want, b.list)
	if names == nil {
		return nil
	}
	st, err := b.state.State(ctx, &fastpath.Query{Neighbours: names})
	if err != nil {
		return err
	}
	w := oper.New(b.schema, want, e)
	w.InConfig("ietf-interfaces:interfaces", func() {
		for rest := st.Neighbours; len(rest) > 0; {
			n := 1 // neighbours of one interface stand together
			for n < len(rest) && rest[n].Iface == rest[0].Iface {
				n++
			}
			one := rest[:n]
			rest = rest[n:]
			w.EntryConfig("interface", []string{one[0].Iface}, func() {
				w.InConfig("ietf-ip:ipv4", func() { write(w, one, false) })
				w.InConfig("ietf-ip:ipv6", func() { write(w, one, true) })
			})
		}
	})
	return w.Err()
}

func write(w *oper.Writer, l []neigh.State, v6 bool) {
	config := map[string]bool{}
	for _, ip := range w.Keys("neighbor") {
		config[ip] = true
	}
	for i := range l {
		n := &l[i]
		known := n.MAC != [6]byte{}
		if n.Addr.Is6() != v6 || n.Reach == neigh.Failed || !known && !v6 {
			continue
		}
		ip := n.Addr.String()
		configured := config[ip]
		if n.Origin == neigh.Static && !configured {
			continue // a commit takes it away just now
		}
		w.Entry("neighbor", []string{ip}, func() {
			w.Text("origin", origin[n.Origin])
			if !configured && known {
				m := n.MAC
				w.Text("link-layer-address", fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]))
			}
			if v6 {
				if n.IsRouter {
					w.Text("is-router", "")
				}
				w.Text("state", reach[n.Reach])
			}
		})
	}
}
