package route

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"vrouter/fastpath/feature/route"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/oper"
)

// families are the RIBs, which are the router's own.
var families = [2]struct{ rib, identity, module string }{
	{"ipv4-master", "ietf-ipv4-unicast-routing:ipv4-unicast", "ietf-ipv4-unicast-routing:"},
	{"ipv6-master", "ietf-ipv6-unicast-routing:ipv6-unicast", "ietf-ipv6-unicast-routing:"},
}

var specials = map[route.Kind]string{route.Blackhole: "blackhole", route.Unreachable: "unreachable",
	route.Prohibit: "prohibit", route.Receive: "receive"}

// State adds the RIBs, with routes that are not active, and the interfaces that
// packets are routed on. It is there while the data plane is not.
func (b *Binding) State(ctx context.Context, want binding.Want, e *data.Edit) error {
	w := oper.New(b.schema, want, e)
	w.In("ietf-routing:routing", func() {
		w.In("interfaces", func() {
			if w.Wants("interface") {
				for _, name := range b.routed() {
					w.Text("interface", name)
				}
			}
		})
		w.In("ribs", func() {
			list := b.schema.Find(ribs)
			keys, all := want.Keys(list)
			for f, fam := range families {
				if !all && !slices.Contains(keys, fam.rib) {
					continue
				}
				w.Entry("rib", []string{fam.rib}, func() {
					w.Text("address-family", fam.identity)
					w.In("routes", func() {
						for _, p := range b.routes(f) {
							if ctx.Err() != nil {
								return
							}
							p.write(w, fam.module)
						}
					})
				})
			}
		})
	})
	if err := ctx.Err(); err != nil {
		return &data.Error{Tag: "operation-failed", Msg: "given up while the routes were read: " + err.Error()}
	}
	return w.Err()
}

// prefixed is a dest with its prefix.
type prefixed struct {
	netip.Prefix
	*dest
}

// routes gives the RIB of a family in order of prefixes.
func (b *Binding) routes(f int) []prefixed {
	b.mu.RLock()
	out := make([]prefixed, 0, len(b.rib.dests))
	for p, d := range b.rib.dests {
		if family(p.Addr()) == f {
			out = append(out, prefixed{p, d})
		}
	}
	b.mu.RUnlock()
	slices.SortFunc(out, func(a, b prefixed) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

// routed names the interfaces that have a family up.
func (b *Binding) routed() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []string
	for name, i := range b.rib.ifaces {
		if i.up[0] || i.up[1] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (p prefixed) write(w *oper.Writer, module string) {
	active := p.active()
	for _, c := range p.dest.routes {
		w.Entry("route", nil, func() {
			w.Uint("route-preference", c.source.preference())
			w.In("next-hop", func() {
				switch {
				case c.source == local:
					w.Text("special-next-hop", "receive")
				case c.want.hops != "":
					hops := c.ways
					if !c.usable {
						hops = c.want.hops
					}
					w.In("next-hop-list", func() {
						for _, h := range list(hops) {
							w.Entry("next-hop", nil, func() {
								if h.Iface != "" {
									w.Text("outgoing-interface", h.Iface)
								}
								if h.NextHop.IsValid() {
									w.Text(module+"address", h.NextHop.String())
								}
								w.Uint("vrouter-routing:weight", uint64(h.Weight))
							})
						}
					})
				case c.want.kind != route.Unicast:
					w.Text("special-next-hop", specials[c.want.kind])
				default:
					if c.link != "" {
						w.Text("outgoing-interface", c.link)
					}
					if c.want.hop.IsValid() {
						w.Text(module+"next-hop-address", c.want.hop.String())
					}
				}
			})
			if c.source == static {
				w.Text("source-protocol", "ietf-routing:static")
			} else {
				w.Text("source-protocol", "ietf-routing:direct")
			}
			if c == active {
				w.Text("active", "")
			}
			w.Time("last-updated", c.since)
			w.Text(module+"destination-prefix", p.Prefix.String())
		})
	}
}
