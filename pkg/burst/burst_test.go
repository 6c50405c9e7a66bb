package burst

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vrouter/pkg/mem"
	"vrouter/pkg/pkt"
)

var ourMAC = [6]byte{2, 5, 4, 3, 2, 1}

// room is frames in mapped memory, each in a slot of 256 bytes.
type room struct {
	r    *mem.Region
	ptr  []uintptr
	size []uint16
}

func newRoom(tb testing.TB, n int) *room {
	tb.Helper()
	r, err := mem.Map(n*256, mem.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Unmap() })
	x := &room{r: r}
	for i := range n {
		x.ptr = append(x.ptr, r.Addr()+uintptr(i)*256)
		x.size = append(x.size, 0)
	}
	return x
}

func (x *room) put(i int, frame []byte) {
	copy(mem.Bytes(x.ptr[i], 256), frame)
	x.size[i] = uint16(len(frame))
}

// good4 is a frame that ParseHash4 takes.
func good4(rng *rand.Rand) []byte {
	payload := 8 + rng.IntN(60)
	f := make([]byte, 14+20+payload+rng.IntN(3)*5) // sometimes padded
	for i := range f {
		f[i] = byte(rng.Uint32())
	}
	pkt.Ethernet(f).Set(ourMAC, pkt.MAC(f[6:12]), pkt.TypeIPv4)
	proto := []uint8{6, 17, 1, 50, 132, 47, 89, 4, byte(rng.Uint32())}[rng.IntN(9)]
	ip := pkt.IPv4(f[14:])
	ip.Set([4]byte(f[26:30]), [4]byte(f[30:34]), proto, uint8(2+rng.IntN(254)), f[15], 20+payload)
	ip.SetID(uint16(rng.Uint32()))
	ip.SetFrag(rng.IntN(2) == 0, false, 0)
	ip.SetChecksum()
	return f
}

// good6 is a frame that ParseHash6 takes.
func good6(rng *rand.Rand) []byte {
	payload := 8 + rng.IntN(60)
	f := make([]byte, 14+40+payload+rng.IntN(3)*5)
	for i := range f {
		f[i] = byte(rng.Uint32())
	}
	pkt.Ethernet(f).Set(ourMAC, pkt.MAC(f[6:12]), pkt.TypeIPv6)
	next := []uint8{6, 17, 58, 50, 132, 33, 136, 47, 4, 41}[rng.IntN(10)]
	ip := pkt.IPv6(f[14:])
	ip.Set([16]byte(f[22:38]), [16]byte(f[38:54]), next, uint8(2+rng.IntN(254)), byte(rng.Uint32()), payload)
	ip.SetFlowLabel(rng.Uint32())
	return f
}

// spoil4 breaks a good frame in one way and repairs the checksum unless that
// is what it breaks.
func spoil4(rng *rand.Rand, f []byte, how int) {
	ip := pkt.IPv4(f[14:])
	switch how {
	case 0:
		f[rng.IntN(6)] ^= 1 << rng.IntN(8)
		return
	case 1:
		f[12+rng.IntN(2)] ^= 1 << rng.IntN(8)
		return
	case 2:
		f[24+rng.IntN(2)] ^= 1 << rng.IntN(8)
		return
	case 3:
		f[14] ^= 1 << rng.IntN(8) // version or header length
	case 4:
		ip.SetFrag(false, true, 0)
	case 5:
		ip.SetFrag(false, false, 8<<rng.IntN(12))
	case 6:
		ip.SetTTL(uint8(rng.IntN(2)))
	case 7:
		ip.SetTotalLen(len(f) - 14 + 1 + rng.IntN(1000))
	case 8:
		ip.SetTotalLen(rng.IntN(28))
	case 9:
		ip.SetTotalLen(0x8000 + rng.IntN(0x8000))
	}
	be := binary.BigEndian
	be.PutUint16(f[24:], 0)
	be.PutUint16(f[24:], pkt.Checksum(f[14:34]))
}

const spoils4 = 10

func spoil6(rng *rand.Rand, f []byte, how int) {
	ip := pkt.IPv6(f[14:])
	switch how {
	case 0:
		f[rng.IntN(6)] ^= 1 << rng.IntN(8)
	case 1:
		f[12+rng.IntN(2)] ^= 1 << rng.IntN(8)
	case 2:
		f[14] ^= 0x10 << rng.IntN(4)
	case 3:
		ip.SetHopLimit(uint8(rng.IntN(2)))
	case 4:
		ip.SetPayloadLen(len(f) - 54 + 1 + rng.IntN(1000))
	case 5:
		ip.SetPayloadLen(rng.IntN(8))
	case 6:
		ip.SetPayloadLen(0x8000 + rng.IntN(0x8000))
	case 7:
		ip.SetNextHeader([]uint8{0, 43, 44, 51, 59, 60, 135, 139, 140, 253, 254, 255}[rng.IntN(12)])
	}
}

const spoils6 = 8

type result4 struct {
	key  []Key4
	hash []uint64
	bad  []uint8
}

func parse4With(f func([]uintptr, []uint16, uint64, uint64, *Seed, []Key4, []uint64, []uint8), x *room, n int, port uint32, s *Seed) result4 {
	r := result4{make([]Key4, n), make([]uint64, n), make([]uint8, n)}
	f(x.ptr[:n], x.size[:n], MACWord(ourMAC)<<16, portBits4(port), s, r.key, r.hash, r.bad)
	return r
}

// verdict4 is what a frame deserves, decided by the careful parser.
func verdict4(f []byte) (ok bool) {
	o, p := pkt.Parse(f)
	if p != pkt.OK && p != pkt.ShortL4 && p != pkt.BadL4Len || o.Type != pkt.TypeIPv4 || o.Tags != 0 || pkt.Ethernet(f).Dst() != ourMAC {
		return false
	}
	ip := pkt.IPv4(f[14:])
	return ip.HeaderLen() == 20 && !ip.IsFragment() && ip.TTL() > 1 && ip.TotalLen() >= 28
}

func verdict6(f []byte) (ok bool) {
	o, p := pkt.Parse(f)
	if p != pkt.OK && p != pkt.ShortL4 && p != pkt.BadL4Len || o.Type != pkt.TypeIPv6 || o.Tags != 0 || pkt.Ethernet(f).Dst() != ourMAC {
		return false
	}
	ip := pkt.IPv6(f[14:])
	switch o.Proto {
	case 6, 17, 58, 50, 132, 33, 136, 47, 4, 41:
		return !o.Has(pkt.HasOptions) && ip.HopLimit() > 1 && ip.PayloadLen() >= 8
	}
	return false
}

// Both implementations give the same bits on good, spoiled and random frames,
// and the verdict is that of the careful parser.
func TestParse4(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	x := newRoom(t, Max)
	seed := NewSeed()
	for turn := range 300 {
		frames := make([][]byte, Max)
		for i := range frames {
			f := good4(rng)
			switch k := (turn + i) % (spoils4 + 4); {
			case k < spoils4:
				spoil4(rng, f, k)
			case k == spoils4:
				for range 3 {
					f[rng.IntN(40)] = byte(rng.Uint32())
				}
			}
			frames[i] = f
			x.put(i, f)
		}
		port := rng.Uint32N(MaxPort + 1)
		n := 1 + rng.IntN(Max)
		g := parse4With(parse4Go, x, n, port, &seed)
		a := parse4With(parse4, x, n, port, &seed)
		for i, f := range frames[:n] {
			if g.bad[i] != a.bad[i] || g.key[i] != a.key[i] || g.hash[i] != a.hash[i] {
				t.Fatalf("frame %x:\nGo       %x %x %d\nassembly %x %x %d", f, g.key[i], g.hash[i], g.bad[i], a.key[i], a.hash[i], a.bad[i])
			}
			want := uint8(1)
			if verdict4(f) {
				want = 0
			}
			if g.bad[i] != want {
				t.Fatalf("frame %x: bad %d, want %d", f, g.bad[i], want)
			}
			if want != 0 {
				continue
			}
			if h := Hash4(&g.key[i], &seed); h != g.hash[i] {
				t.Fatalf("Hash4 %x, ParseHash4 %x", h, g.hash[i])
			}
			ip := pkt.IPv4(f[14:])
			if s, d := SrcIP4(&g.key[i]), DstIP4(&g.key[i]); s != binary.BigEndian.Uint32(ip[12:]) || d != binary.BigEndian.Uint32(ip[16:]) {
				t.Fatalf("addresses %x %x of %x", s, d, f)
			}
		}
	}
}

func TestParse6(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	x := newRoom(t, Max)
	seed := NewSeed()
	for turn := range 300 {
		frames := make([][]byte, Max)
		for i := range frames {
			f := good6(rng)
			switch k := (turn + i) % (spoils6 + 4); {
			case k < spoils6:
				spoil6(rng, f, k)
			case k == spoils6:
				for range 3 {
					f[rng.IntN(60)] = byte(rng.Uint32())
				}
			}
			frames[i] = f
			x.put(i, f)
		}
		port := rng.Uint32N(MaxPort + 1)
		n := 1 + rng.IntN(Max)
		var key [2][Max]Key6
		var hash [2][Max]uint64
		var bad [2][Max]uint8
		parse6Go(x.ptr[:n], x.size[:n], MACWord(ourMAC)<<16, port, &seed, key[0][:n], hash[0][:n], bad[0][:n])
		ParseHash6(x.ptr[:n], x.size, MACWord(ourMAC), port, &seed, key[1][:], hash[1][:], bad[1][:])
		for i, f := range frames[:n] {
			if bad[0][i] != bad[1][i] || key[0][i] != key[1][i] || hash[0][i] != hash[1][i] {
				t.Fatalf("frame %x:\nGo       %x %x %d\nassembly %x %x %d", f, key[0][i], hash[0][i], bad[0][i], key[1][i], hash[1][i], bad[1][i])
			}
			want := uint8(1)
			if verdict6(f) {
				want = 0
			}
			if bad[0][i] != want {
				t.Fatalf("frame %x: bad %d, want %d", f, bad[0][i], want)
			}
			if h := Hash6(&key[0][i], &seed); want == 0 && h != hash[0][i] {
				t.Fatalf("Hash6 %x, ParseHash6 %x", h, hash[0][i])
			}
		}
	}
}

// What belongs to a flow changes the key, and what does not leaves it alone.
func TestKeys(t *testing.T) {
	x := newRoom(t, 2)
	seed := NewSeed()
	rng := rand.New(rand.NewPCG(2, 2))
	key4 := func(f []byte, port uint32) (Key4, uint64) {
		ip := pkt.IPv4(f[14:])
		ip.SetChecksum()
		x.put(0, f)
		var k [1]Key4
		var h [1]uint64
		var bad [1]uint8
		ParseHash4(x.ptr[:1], x.size, MACWord(ourMAC), port, &seed, k[:], h[:], bad[:])
		if bad[0] != 0 {
			t.Fatalf("bad frame %x", f)
		}
		return k[0], h[0]
	}
	key6 := func(f []byte, port uint32) (Key6, uint64) {
		x.put(0, f)
		var k [1]Key6
		var h [1]uint64
		var bad [1]uint8
		ParseHash6(x.ptr[:1], x.size, MACWord(ourMAC), port, &seed, k[:], h[:], bad[:])
		if bad[0] != 0 {
			t.Fatalf("bad frame %x", f)
		}
		return k[0], h[0]
	}
	// offsets behind the IP header that belong to the flow, by protocol
	flow := map[uint8][]int{6: {0, 1, 2, 3}, 17: {0, 1, 2, 3}, 132: {0, 3}, 33: {0, 3}, 136: {1, 2}, 50: {0, 1, 2, 3}, 1: {0, 1, 4, 5}, 58: {0, 1, 4, 5}}
	not := map[uint8][]int{6: {4, 5, 7}, 17: {4, 5, 6}, 50: {4, 5, 6, 7}, 1: {2, 3, 6, 7}, 58: {2, 3, 6, 7}, 47: {0, 1, 2, 3, 4, 5}, 4: {2, 3}, 41: {4, 5}}
	for range 50 {
		for _, proto := range []uint8{6, 17, 132, 33, 136, 50, 1, 47, 4, 41} {
			f := good4(rng)
			f[23] = proto
			k, h := key4(f, 77)
			for _, off := range append([]int{26 - 34, 29 - 34, 30 - 34, 33 - 34}, flow[proto]...) {
				g := bytes.Clone(f)
				g[34+off] ^= 0x40
				if k2, h2 := key4(g, 77); k2 == k || h2 == h {
					t.Fatalf("protocol %d: byte %d is not in the key", proto, off)
				}
			}
			for _, off := range append([]int{15 - 34, 18 - 34, 22 - 34, 6 - 34}, not[proto]...) {
				g := bytes.Clone(f)
				g[34+off] ^= 4
				if g[22] < 2 {
					continue
				}
				if k2, h2 := key4(g, 77); k2 != k || h2 != h {
					t.Fatalf("protocol %d: byte %d is in the key", proto, off)
				}
			}
			for _, port := range []uint32{0, 76, 77 | 1<<16, 77 | 1<<23, MaxPort} {
				if k2, _ := key4(f, port); k2 == k {
					t.Fatalf("port %d is not in the key", port)
				}
			}
			if proto == 1 {
				continue
			}
			f = good6(rng)
			f[20] = proto
			k6, h := key6(f, 77)
			for _, off := range append([]int{22 - 54, 37 - 54, 38 - 54, 53 - 54}, flow[proto]...) {
				g := bytes.Clone(f)
				g[54+off] ^= 0x40
				if k2, h2 := key6(g, 77); k2 == k6 || h2 == h {
					t.Fatalf("next header %d: byte %d is not in the key", proto, off)
				}
			}
			for _, off := range append([]int{15 - 54, 17 - 54, 21 - 54, 6 - 54}, not[proto]...) {
				g := bytes.Clone(f)
				g[54+off] ^= 4
				if g[21] < 2 {
					continue
				}
				if k2, h2 := key6(g, 77); k2 != k6 || h2 != h {
					t.Fatalf("next header %d: byte %d is in the key", proto, off)
				}
			}
			for _, port := range []uint32{0, 76, 77 | 1<<16, 77 | 1<<23, MaxPort} {
				if k2, _ := key6(f, port); k2 == k6 {
					t.Fatalf("port %d is not in the key", port)
				}
			}
		}
	}
}

// Flows that differ in few bits spread over buckets (low bits) and tags (high
// bits) about as well as at random.
func TestHashSpreads(t *testing.T) {
	seed := NewSeed()
	const n, buckets = 1 << 16, 1 << 14
	for name, h := range map[string]func(i uint64) uint64{
		"v4 ports":     func(i uint64) uint64 { return Hash4(&Key4{0x0a000001_0001_1100, 0x0b000001 | i<<32}, &seed) },
		"v4 addresses": func(i uint64) uint64 { return Hash4(&Key4{i<<48 | 0x0600, 0x1234_5678}, &seed) },
		"v6 low bits":  func(i uint64) uint64 { return Hash6(&Key6{1, 2, 3, i, 5}, &seed) },
		"v6 ports":     func(i uint64) uint64 { return Hash6(&Key6{1, 2, 3, 4, i << 8}, &seed) },
		"v6 source":    func(i uint64) uint64 { return Hash6(&Key6{i << 40, 2, 3, 4, 5}, &seed) },
	} {
		load, tags := make([]int, buckets), make([]int, 1<<16)
		worst, most := 0, 0
		for i := range uint64(n) {
			x := h(i)
			load[x&(buckets-1)]++
			worst = max(worst, load[x&(buckets-1)])
			tags[x>>48]++
			most = max(most, tags[x>>48])
		}
		// 4 a bucket and 1 a tag on average; Poisson gives 20 with a chance of
		// 1e-8 and 13 with 1e-10 each.
		if worst > 20 || most > 13 {
			t.Errorf("%s: fullest bucket %d, most frequent tag %d", name, worst, most)
		}
	}
}

func TestSeedsDiffer(t *testing.T) {
	if a, b := NewSeed(), NewSeed(); a == b {
		t.Error("two equal seeds")
	}
}

func TestBucketMatch(t *testing.T) {
	type bucket struct {
		tag [8]uint16
		idx [8]uint32
		_   [4]uint32
	}
	tab, err := mem.NewTable[bucket](512, mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Unmap()
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		for i := range tab.Slice() {
			b := &tab.Slice()[i]
			for s := range b.tag {
				b.tag[s] = []uint16{0, 1, 2, 0x8000, 0x7fff, 0xffff, uint16(rng.Uint32())}[rng.IntN(7)]
				b.idx[s] = rng.Uint32N(1 << 30)
				if rng.IntN(4) == 0 {
					b.idx[s] = 0
				}
			}
		}
		n := rng.IntN(Max + 1)
		bidx, hash := make([]uint32, n), make([]uint64, n)
		for i := range bidx {
			bidx[i] = rng.Uint32N(512)
			hash[i] = uint64([]uint16{0, 1, 2, 0x8000, 0x7fff, 0xffff, 0xfffe, uint16(rng.Uint32())}[rng.IntN(8)])<<48 | rng.Uint64()>>16
		}
		base := uintptr(tab.Base())
		a, g := make([]uint32, n+1), make([]uint32, n+1)
		a[n], g[n] = 7, 7
		PrefetchLines(base, bidx)
		BucketMatch(base, bidx, hash, a)
		bucketMatchGo(base, bidx, hash, g)
		for i := range bidx {
			want := uint32(0)
			b := tab.At(bidx[i])
			for s := 7; s >= 0; s-- {
				if b.tag[s] == uint16(hash[i]>>48) {
					want = b.idx[s]
				}
			}
			if a[i] != want || g[i] != want {
				t.Fatalf("bucket %v, hash %x: %d, in Go %d, want %d", *b, hash[i], a[i], g[i], want)
			}
		}
		if a[n] != 7 || g[n] != 7 {
			t.Fatal("wrote past the end")
		}
	}
}

func TestClassify(t *testing.T) {
	x := newRoom(t, Max)
	rng := rand.New(rand.NewPCG(5, 5))
	var c Classes
	for turn := range 300 {
		n := rng.IntN(Max + 1)
		var want [3][]uint16
		for i := range n {
			k := rng.IntN(3)
			if turn%4 != 0 {
				k = turn % 4 % 3 // bursts of one kind
			}
			typ := []uint16{pkt.TypeIPv4, pkt.TypeIPv6, pkt.TypeARP}[k]
			if k == 2 && rng.IntN(2) == 0 {
				typ = []uint16{0x0801, 0x0008, 0x86de, 0xdd86, 0}[rng.IntN(5)]
			}
			pkt.Ethernet(mem.Bytes(x.ptr[i], 64)).SetType(typ)
			want[k] = append(want[k], uint16(i))
		}
		Classify(x.ptr[:n], &c)
		got := [3][]uint16{c.V4[:c.N4], c.V6[:c.N6], c.Other[:c.NumOther]}
		for k := range got {
			if len(got[k]) != len(want[k]) {
				t.Fatalf("kind %d: %d frames, want %d", k, len(got[k]), len(want[k]))
			}
			for i := range got[k] {
				if got[k][i] != want[k][i] {
					t.Fatalf("kind %d: %v, want %v", k, got[k], want[k])
				}
			}
		}
	}
}

// A prefetch has no result; it must not fault, whatever the address, and not
// read past its index lists.
func TestPrefetch(t *testing.T) {
	tab, err := mem.NewTable[[64]byte](1<<12, mem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Unmap()
	v := []uint32{0, 1, 1<<12 - 1, 77}
	base := uintptr(tab.Base())
	PrefetchLines(base, v)
	PrefetchShifted(base, v, 4)
	PrefetchPicked(base, v, []uint8{3, 0, 0, 1}, 0xfff, 1)
	PrefetchPtrs([]uintptr{base, base + 64}, 14)
	PrefetchLines(base, nil)
	PrefetchShifted(base, nil, 0)
	PrefetchPicked(base, nil, nil, 0, 0)
	PrefetchPtrs(nil, 0)
	if hints {
		PrefetchLines(0, v)
		PrefetchPtrs([]uintptr{0, 1, ^uintptr(0)}, 1)
	}
}

func TestRdtscAdvances(t *testing.T) {
	a := Rdtsc()
	for i := 0; i < 1e6; i++ {
		if Rdtsc() > a {
			return
		}
	}
	t.Error("the clock stands still")
}

func TestNoAllocation(t *testing.T) {
	x := newRoom(t, Max)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range x.ptr {
		x.put(i, good4(rng))
	}
	seed := NewSeed()
	var (
		k4    [Max]Key4
		k6    [Max]Key6
		hash  [Max]uint64
		bad   [Max]uint8
		idx   [Max]uint32
		out   [Max]uint32
		c     Classes
		table [64]byte
	)
	base := x.r.Addr()
	_ = table
	if n := testing.AllocsPerRun(20, func() {
		Classify(x.ptr, &c)
		PrefetchPtrs(x.ptr, 14)
		ParseHash4(x.ptr, x.size, MACWord(ourMAC), 1, &seed, k4[:], hash[:], bad[:])
		ParseHash6(x.ptr, x.size, MACWord(ourMAC), 1, &seed, k6[:], hash[:], bad[:])
		PrefetchLines(base, idx[:])
		BucketMatch(base, idx[:], hash[:], out[:])
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// The assembly in the tree is what the generator writes.
func TestGeneratedIsCurrent(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the go command is not in the path")
		}
		t.Skip("needs the go command to run the generator")
	}
	dir := t.TempDir()
	cmd := exec.Command(goTool, "run", "./gen", "-out", filepath.Join(dir, "a.s"), "-stubs", filepath.Join(dir, "s.go"), "-pkg", "burst")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for fresh, have := range map[string]string{"a.s": "burst_amd64.s", "s.go": "stubs_amd64.go"} {
		a, err := os.ReadFile(filepath.Join(dir, fresh))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(have)
		if err != nil {
			t.Fatal(err)
		}
		// The first line tells the command with its file names.
		if _, a, _ = bytes.Cut(a, []byte("\n")); !bytes.HasSuffix(b, a) {
			t.Errorf("%s is out of date: run go generate", have)
		}
	}
}

func FuzzParse(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 4 {
		f.Add(good4(rng), uint32(1))
		f.Add(good6(rng), uint32(MaxPort))
	}
	f.Fuzz(func(t *testing.T, frame []byte, port uint32) {
		if len(frame) > 256 {
			return
		}
		x := newRoom(t, 1)
		x.put(0, frame)
		seed := Seed{1, 2, 3, 4}
		port &= MaxPort
		g := parse4With(parse4Go, x, 1, port, &seed)
		a := parse4With(parse4, x, 1, port, &seed)
		if g.key[0] != a.key[0] || g.hash[0] != a.hash[0] || g.bad[0] != a.bad[0] {
			t.Fatalf("Go %x %x %d, assembly %x %x %d", g.key, g.hash, g.bad, a.key, a.hash, a.bad)
		}
		if ok := verdict4(frame); ok != (g.bad[0] == 0) {
			t.Fatalf("IPv4: bad %d, careful parser %v", g.bad[0], ok)
		}
		var key [2][1]Key6
		var hash [2][1]uint64
		var bad [2][1]uint8
		parse6Go(x.ptr, x.size, MACWord(ourMAC)<<16, port, &seed, key[0][:], hash[0][:], bad[0][:])
		parse6(x.ptr, x.size, MACWord(ourMAC)<<16, port, &seed, key[1][:], hash[1][:], bad[1][:])
		if key[0] != key[1] || hash[0] != hash[1] || bad[0] != bad[1] {
			t.Fatalf("Go %x %x %d, assembly %x %x %d", key[0], hash[0], bad[0], key[1], hash[1], bad[1])
		}
		if ok := verdict6(frame); ok != (bad[0][0] == 0) {
			t.Fatalf("IPv6: bad %d, careful parser %v", bad[0][0], ok)
		}
	})
}

// perPacket reports the best of several runs: the machine has neighbours.
func perPacket(b *testing.B, f func()) {
	best := ^uint64(0)
	for b.Loop() {
		t := Rdtsc()
		f()
		best = min(best, Rdtsc()-t)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Max, "ns/packet")
	b.ReportMetric(float64(best)/Max, "bestcycles/packet")
}

func BenchmarkParse(b *testing.B) {
	x := newRoom(b, Max)
	rng := rand.New(rand.NewPCG(1, 1))
	seed := NewSeed()
	var k4 [Max]Key4
	var k6 [Max]Key6
	var hash [Max]uint64
	var bad [Max]uint8
	mac := MACWord(ourMAC)
	for i := range x.ptr {
		x.put(i, good4(rng))
	}
	b.Run("v4/asm", func(b *testing.B) {
		perPacket(b, func() { ParseHash4(x.ptr, x.size, mac, 1, &seed, k4[:], hash[:], bad[:]) })
	})
	b.Run("v4/go", func(b *testing.B) {
		perPacket(b, func() { parse4Go(x.ptr, x.size, mac<<16, 1, &seed, k4[:], hash[:], bad[:]) })
	})
	var c Classes
	b.Run("classify/pure", func(b *testing.B) { perPacket(b, func() { Classify(x.ptr, &c) }) })
	for i := range x.ptr {
		x.put(i, good6(rng))
	}
	b.Run("v6/asm", func(b *testing.B) {
		perPacket(b, func() { ParseHash6(x.ptr, x.size, mac, 1, &seed, k6[:], hash[:], bad[:]) })
	})
	b.Run("v6/go", func(b *testing.B) {
		perPacket(b, func() { parse6Go(x.ptr, x.size, mac<<16, 1, &seed, k6[:], hash[:], bad[:]) })
	})
	for i := range x.ptr {
		if rng.IntN(2) == 0 {
			x.put(i, good4(rng))
		}
	}
	b.Run("classify/mixed", func(b *testing.B) { perPacket(b, func() { Classify(x.ptr, &c) }) })
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{256, 1 << 18} {
		name := map[int]string{256: "256", 1 << 18: "256Ki"}[n]
		tab, err := mem.NewTable[[16]uint32](n, mem.Options{})
		if err != nil {
			b.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(2, 2))
		for i := range tab.Slice() {
			for s := range 8 {
				tab.Slice()[i][4+s] = rng.Uint32()
			}
			for s := range 4 {
				tab.Slice()[i][s] = rng.Uint32()
			}
		}
		base := uintptr(tab.Base())
		idx, hash := make([]uint32, 1<<16), make([]uint64, 1<<16)
		for i := range idx {
			idx[i], hash[i] = rng.Uint32N(uint32(n)), rng.Uint64()
		}
		var out [Max]uint32
		at := 0
		next := func() { at = (at + Max) & (1<<16 - 1) }
		b.Run(name+"/asm", func(b *testing.B) {
			perPacket(b, func() { next(); BucketMatch(base, idx[at:at+Max], hash[at:], out[:]) })
		})
		b.Run(name+"/asm+T1", func(b *testing.B) {
			perPacket(b, func() {
				next()
				PrefetchLines(base, idx[at:at+Max])
				BucketMatch(base, idx[at:at+Max], hash[at:], out[:])
			})
		})
		b.Run(name+"/go", func(b *testing.B) {
			perPacket(b, func() { next(); bucketMatchGo(base, idx[at:at+Max], hash[at:], out[:]) })
		})
		tab.Unmap()
	}
}
