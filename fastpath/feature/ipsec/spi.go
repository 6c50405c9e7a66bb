package ipsec

import (
	"math/bits"
	"sync/atomic"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
)

// spiTable finds inbound SAs by SPI, for packets of new flows: open addressing
// in mapped memory, one writer, readers without locks. At most half of it is
// ever used, so a search for an SPI that nobody has ends after two or three
// places; the hash is random, so that nobody can choose SPIs for which it does
// not.
type spiTable struct {
	env  *pipeline.Env
	now  atomic.Pointer[spiPlaces]
	used int // places that are not empty, those of deleted SPIs included
	live int
}

type spiPlaces struct {
	mult  uint64
	shift uint
	mask  uint32
	tab   mem.Table[uint64] // SPI<<32 | handle; 0 empty, handle 0 deleted
}

func newSPITable(env *pipeline.Env) (*spiTable, error) {
	t := &spiTable{env: env}
	return t, t.rebuild(0)
}

// reserve makes room for n more SPIs. It may fail, set cannot.
func (t *spiTable) reserve(n int) error {
	if 2*(t.used+n) <= int(t.now.Load().mask)+1 {
		return nil
	}
	return t.rebuild(n)
}

// rebuild makes a table without deleted places and with room for n more. The
// old one goes when no worker can be in it.
func (t *spiTable) rebuild(n int) error {
	size := 512
	for size < 4*(t.live+n) {
		size *= 2
	}
	tab, err := mem.NewTable[uint64](size, mem.Options{SmallPages: size < mem.HugePage/8})
	if err != nil {
		return err
	}
	p := &spiPlaces{mult: burst.NewSeed()[0] | 1, shift: uint(64 - bits.Len(uint(size-1))), mask: uint32(size - 1), tab: tab}
	old := t.now.Load()
	if old != nil {
		for _, x := range old.tab.Slice() {
			if uint32(x) != 0 {
				*p.tab.At(p.where(uint32(x >> 32))) = x
			}
		}
		t.env.Grace.Retire(func() { _ = old.tab.Unmap() })
	}
	t.used = t.live
	t.now.Store(p)
	return nil
}

func (p *spiPlaces) first(spi uint32) uint32 { return uint32(uint64(spi) * p.mult >> p.shift) }

// where is the place of an SPI, or the empty one where the search for it ends.
func (p *spiPlaces) where(spi uint32) uint32 {
	i := p.first(spi)
	for {
		if x := atomic.LoadUint64(p.tab.At(i)); x == 0 || uint32(x>>32) == spi {
			return i
		}
		i = (i + 1) & p.mask
	}
}

// find gives the handle for an SPI, 0 when there is none. Any goroutine that
// may read the SAD.
func (t *spiTable) find(spi uint32) uint32 {
	p := t.now.Load()
	return uint32(atomic.LoadUint64(p.tab.At(p.where(spi))))
}

// set points an SPI (never 0) to a handle, 0 to delete it.
func (t *spiTable) set(spi, handle uint32) {
	p := t.now.Load()
	at := p.tab.At(p.where(spi))
	old := *at
	switch {
	case old == 0 && handle == 0:
		return
	case old == 0:
		t.used++
	}
	if uint32(old) == 0 && handle != 0 {
		t.live++
	} else if uint32(old) != 0 && handle == 0 {
		t.live--
	}
	atomic.StoreUint64(at, uint64(spi)<<32|uint64(handle))
}

func (t *spiTable) close() error { return t.now.Load().tab.Unmap() }
