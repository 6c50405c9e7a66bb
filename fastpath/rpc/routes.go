package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/route"
)

// change is a fastpath.Change on the wire. Routes come in hundreds of
// thousands, and gob calls a marshaller that allocates for each address; as
// rows they take a quarter of the time.
type change struct {
	fastpath.Change
	Rows   []byte   // Change.Route.Set, see appendRoute
	Ifaces []string // what Rows names by number
}

func newChange(c *fastpath.Change) *change {
	w := &change{Change: *c}
	if len(c.Route.Set) == 0 {
		return w
	}
	numbers := map[string]uint64{}
	rows := make([]byte, 0, 16*len(c.Route.Set))
	for i := range c.Route.Set {
		r := &c.Route.Set[i]
		if r.Prefix.Addr().Zone() != "" || r.NextHop.Zone() != "" {
			return w // rows have no zones: gob does it
		}
		n, ok := numbers[r.Iface]
		if !ok {
			n = uint64(len(w.Ifaces))
			numbers[r.Iface] = n
			w.Ifaces = append(w.Ifaces, r.Iface)
		}
		rows = appendRoute(rows, r, n)
	}
	w.Rows = rows
	w.Route.Set = nil
	return w
}

func (w *change) change() (*fastpath.Change, error) {
	c := w.Change
	b := w.Rows
	if len(b) > 0 {
		c.Route.Set = make([]route.Config, 0, len(b)/8)
	}
	for len(b) > 0 {
		var r route.Config
		n, err := cutRoute(&b, &r)
		if err != nil {
			return nil, err
		}
		if n >= uint64(len(w.Ifaces)) {
			return nil, fmt.Errorf("a route by interface %d of %d", n, len(w.Ifaces))
		}
		r.Iface = w.Ifaces[n]
		c.Route.Set = append(c.Route.Set, r)
	}
	return &c, nil
}

// appendRoute writes one row:
//
//	prefix     address, then its length + 1 (0: not valid) in a byte
//	kind       a byte
//	interface  its number as a varint
//	next hop   address
//	next hops  a text, its length as a varint before it
//
// where an address is a byte of length (0, 4 or 16) and that many bytes.
func appendRoute(b []byte, r *route.Config, iface uint64) []byte {
	b = appendAddr(b, r.Prefix.Addr())
	b = append(b, byte(r.Prefix.Bits()+1), byte(r.Kind))
	b = binary.AppendUvarint(b, iface)
	b = appendAddr(b, r.NextHop)
	b = binary.AppendUvarint(b, uint64(len(r.Hops)))
	return append(b, r.Hops...)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4():
		x := a.As4()
		return append(append(b, 4), x[:]...)
	case a.IsValid():
		x := a.As16()
		return append(append(b, 16), x[:]...)
	}
	return append(b, 0)
}

var errRow = errors.New("a route's row is malformed")

// cutRoute takes a row off b.
func cutRoute(b *[]byte, r *route.Config) (iface uint64, err error) {
	a, err := cutAddr(b)
	if err != nil || len(*b) < 2 {
		return 0, errRow
	}
	if bits := int((*b)[0]) - 1; bits >= 0 || a.IsValid() {
		r.Prefix = netip.PrefixFrom(a, bits)
	}
	r.Kind = route.Kind((*b)[1])
	*b = (*b)[2:]
	iface, n := binary.Uvarint(*b)
	if n <= 0 {
		return 0, errRow
	}
	*b = (*b)[n:]
	if r.NextHop, err = cutAddr(b); err != nil {
		return 0, err
	}
	size, n := binary.Uvarint(*b)
	if n <= 0 || size > uint64(len(*b)-n) {
		return 0, errRow
	}
	r.Hops = route.Hops((*b)[n : n+int(size)])
	*b = (*b)[n+int(size):]
	return iface, nil
}

func cutAddr(b *[]byte) (a netip.Addr, err error) {
	if len(*b) == 0 {
		return a, errRow
	}
	n := int((*b)[0])
	if n != 0 && n != 4 && n != 16 || len(*b) < 1+n {
		return a, errRow
	}
	a, _ = netip.AddrFromSlice((*b)[1 : 1+n])
	*b = (*b)[1+n:]
	return a, nil
}
