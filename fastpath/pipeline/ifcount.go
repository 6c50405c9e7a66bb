package pipeline

import (
	"fmt"
	"sync/atomic"

	"vrouter/fastpath/drop"
	"vrouter/pkg/mem"
)

// IfCount is what a worker counts on an interface: 128 bytes. Octets are whole
// frames without FCS.
type IfCount struct {
	RxPackets, RxOctets, RxMulticast, RxBroadcast uint64
	TxPackets, TxOctets, TxMulticast, TxBroadcast uint64
	TxDiscards                                    uint64
	_                                             [7]uint64
}

// Add adds a worker's b, which it may be counting on, to a.
func (a *IfCount) Add(b *IfCount) {
	for _, f := range []struct{ to, from *uint64 }{
		{&a.RxPackets, &b.RxPackets}, {&a.RxOctets, &b.RxOctets}, {&a.RxMulticast, &b.RxMulticast}, {&a.RxBroadcast, &b.RxBroadcast},
		{&a.TxPackets, &b.TxPackets}, {&a.TxOctets, &b.TxOctets}, {&a.TxMulticast, &b.TxMulticast}, {&a.TxBroadcast, &b.TxBroadcast},
		{&a.TxDiscards, &b.TxDiscards},
	} {
		*f.to += atomic.LoadUint64(f.from)
	}
}

// Sub takes b from a.
func (a *IfCount) Sub(b *IfCount) {
	a.RxPackets -= b.RxPackets
	a.RxOctets -= b.RxOctets
	a.RxMulticast -= b.RxMulticast
	a.RxBroadcast -= b.RxBroadcast
	a.TxPackets -= b.TxPackets
	a.TxOctets -= b.TxOctets
	a.TxMulticast -= b.TxMulticast
	a.TxBroadcast -= b.TxBroadcast
	a.TxDiscards -= b.TxDiscards
}

// Drops are a worker's or a sum's drop counts on one interface.
type Drops [drop.N]uint64

// Add adds a worker's b, which it may be counting on, to a.
func (a *Drops) Add(b *Drops) {
	for r := range b {
		a[r] += atomic.LoadUint64(&b[r])
	}
}

// IfTables are one worker's counters by interface: as Counters, one writer and
// readers that sum. Lines 0 are for what belongs to no interface.
type IfTables struct {
	Count mem.Table[IfCount]
	Drop  mem.Table[Drops]
}

// NewIfTables maps the tables; an interface costs memory once it is used.
func NewIfTables() (*IfTables, error) {
	c, err := mem.NewTable[IfCount](MaxIfaces, mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("interface counters: %w", err)
	}
	d, err := mem.NewTable[Drops](MaxIfaces, mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("drop counters: %w", err)
	}
	return &IfTables{c, d}, nil
}

// Close unmaps the tables.
func (t *IfTables) Close() error {
	if err := t.Count.Unmap(); err != nil {
		return err
	}
	return t.Drop.Unmap()
}
