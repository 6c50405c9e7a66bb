package ipsec

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"vrouter/fastpath/pipeline"
	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// What the packet loops take for granted.
func TestLayout(t *testing.T) {
	var r record
	var j sal.Job
	var p path16
	for name, x := range map[string][2]uintptr{
		"record":          {unsafe.Sizeof(r), 192},
		"record, line 1":  {unsafe.Offsetof(r.Hdr6), 64},
		"live line":       {unsafe.Sizeof(liveLine{}), 64},
		"live identity":   {unsafe.Sizeof(liveIdent{}), 64},
		"path":            {unsafe.Sizeof(p), 16},
		"path.Adj":        {unsafe.Offsetof(p.Adj), 0},
		"path.AdjGen":     {unsafe.Offsetof(p.AdjGen), 4},
		"path.Gen":        {unsafe.Offsetof(p.Gen), 8},
		"job":             {unsafe.Sizeof(j), 32},
		"job.Op":          {unsafe.Offsetof(j.Op), 4},
		"job.Desc":        {unsafe.Offsetof(j.Desc), 8},
		"job.Off":         {unsafe.Offsetof(j.Off), 16},
		"job.Len":         {unsafe.Offsetof(j.Len), 18},
		"job.SeqHi":       {unsafe.Offsetof(j.SeqHi), 20},
		"job.Cookie":      {unsafe.Offsetof(j.Cookie), 24},
		"a slot's window": {windowWords * 8 % 64, 0},
	} {
		if x[0] != x[1] {
			t.Errorf("%s: %d, want %d", name, x[0], x[1])
		}
	}
	if windowWords < replay.MaxWords || windowWords/8%2 == 0 {
		t.Errorf("windows of %d words", windowWords)
	}
	var area [replay.MaxWords]uint64
	w, err := replay.Init(area[:], 64, true)
	if err != nil {
		t.Fatal(err)
	}
	if w.Accept(4711); area[0] != 4711 {
		t.Error("the window's top is not its first word")
	}
	if largestMaxSAs*2+1024 > pipeline.MaxSA || largestMaxSAs*2+1024 > 1<<24 {
		t.Error("handles do not fit an origin or an op")
	}
	c := makeCookie(0xabcdef, 0x7ffe, 0x7ffd, 3) | ready
	if c.handle() != 0xabcdef || c.in() != 0x7ffd || c.pad() != 3 || c.way() != 0x7ffd7ffe || c&ready == 0 {
		t.Errorf("cookie %x", c)
	}
}

// TestSPITable holds the table against a map, through many more SPIs than it has
// places for, with readers beside the writer.
func TestSPITable(t *testing.T) {
	env := &pipeline.Env{Grace: mem.NewGrace()}
	tab, err := newSPITable(env)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(50) { // always there
		if err := tab.reserve(1); err != nil {
			t.Fatal(err)
		}
		tab.set(1000+i, 7+i)
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		worker := env.Grace.Register()
		readers.Go(func() {
			worker.Online()
			defer worker.Unregister()
			for !stop.Load() {
				for i := range uint32(50) {
					if h := tab.find(1000 + i); h != 7+i {
						t.Errorf("SPI %d has handle %d", 1000+i, h)
						return
					}
					tab.find(1<<31 + i) // nobody has it, and the search ends
				}
				worker.Quiesce()
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	want := map[uint32]uint32{}
	for range 20000 {
		spi := 2000 + r.Uint32N(1<<20)
		if len(want) > 300 {
			for old := range want {
				tab.set(old, 0)
				delete(want, old)
				if tab.find(old) != 0 {
					t.Fatal("a deleted SPI is still there")
				}
				break
			}
		}
		if err := tab.reserve(1); err != nil {
			t.Fatal(err)
		}
		h := r.Uint32N(1<<20) + 1
		tab.set(spi, h)
		want[spi] = h
		env.Grace.Poll()
	}
	for spi, h := range want {
		if tab.find(spi) != h {
			t.Errorf("SPI %d has handle %d, want %d", spi, tab.find(spi), h)
		}
	}
	if tab.live != len(want)+50 || tab.now.Load().mask > 4095 {
		t.Errorf("%d live of %d, %d places", tab.live, len(want)+50, tab.now.Load().mask+1)
	}
	stop.Store(true)
	readers.Wait()
	if err := tab.close(); err != nil {
		t.Fatal(err)
	}
}
