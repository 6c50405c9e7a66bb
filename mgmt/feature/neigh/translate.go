package neigh

import (
	"net"
	"net/netip"

	"vrouter/fastpath/feature/neigh"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/touch"
	"vrouter/mgmt/yang"
)

// Translate implements binding.Binding.
func (b *Binding) Translate(c *binding.Commit) error {
	var errs data.Errors
	for _, list := range []*yang.Node{b.list4, b.list6} {
		for _, e := range touch.Entries(c, list) {
			key := neigh.Key{Iface: e.Path.Up.Up.Key, Addr: netip.MustParseAddr(e.Key())}
			if e.New == nil {
				c.Out.Neigh.Delete = append(c.Out.Neigh.Delete, key)
				continue
			}
			is, bad := b.mac(list, e.New)
			leaf := "/link-layer-address"
			if why := unfit(key.Addr); why != "" {
				leaf, bad = "/ip", why
			}
			if bad != "" {
				errs = append(errs, &data.Error{Tag: "invalid-value", Path: e.Path.String() + leaf, Msg: bad})
				continue
			}
			if e.Old != nil {
				if was, _ := b.mac(list, e.Old); was == is {
					continue
				}
			}
			c.Out.Neigh.Set = append(c.Out.Neigh.Set, neigh.Config{Key: key, MAC: is})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// mac reads an entry's link-layer address, which on Ethernet is that of one
// station.
func (b *Binding) mac(list *yang.Node, c *data.Container) (m [6]byte, unfit string) {
	var text *string
	if list == b.list4 {
		text = b.fill4.Fill(c).LinkLayerAddress
	} else {
		text = b.fill6.Fill(c).LinkLayerAddress
	}
	a, err := net.ParseMAC(*text)
	if err != nil || len(a) != 6 {
		return m, "an Ethernet address has 6 octets"
	}
	copy(m[:], a)
	if m[0]&1 != 0 || m == [6]byte{} {
		return m, "this is not the address of one station"
	}
	return m, ""
}

// unfit says why an address cannot be that of a neighbour, "" when it can.
func unfit(a netip.Addr) string {
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return "a neighbour cannot have this IP address"
	}
	return ""
}
