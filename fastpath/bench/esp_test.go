package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"vrouter/fastpath"
	"vrouter/fastpath/bench/testbed"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/fastpath/feature/route"
	"vrouter/pkg/burst"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// The sizes of the inner IP packet, and how many SAs there are. Each SA has a
// policy of its own, and a peer among the next hops.
var (
	espSizes = []int{64, 512, 1420}
	espSAs   = []int{1, 1000, 10000}
)

// ownWAN is the rig's address towards the peers.
var ownWAN = netip.MustParseAddr("10.2.0.1")

const firstSPI = 4096

// innerPrefix is the network behind the peer of SA i.
func innerPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24)
}

var behindUs = netip.MustParsePrefix("20.0.0.0/8")

// tunnels adds n SAs of one direction with AES-128 and their policies.
func tunnels(r *Rig, n int, dir sal.Direction) { keyed(r, n, dir, espKey) }

// keyed does it with keys as long as the one given. Inbound SAs share it: the
// generator plays all peers with one AEAD, so that its work leaves the caches as it
// found them.
func keyed(r *Rig, n int, dir sal.Direction, key []byte) { keyedOn(r, n, dir, key, ipsec.Offload{}) }

// keyedOn is keyed with the crypto where offload says.
func keyedOn(r *Rig, n int, dir sal.Direction, key []byte, offload ipsec.Offload) {
	given := key
	var c fastpath.Change
	for i := range n {
		sel := ipsec.Selector{Local: behindUs, Remote: innerPrefix(i), Proto: -1}
		if n == 1 {
			sel.Remote = netip.MustParsePrefix("100.0.0.0/8")
		}
		key := slices.Clone(given)
		if dir == sal.Outbound {
			binary.BigEndian.PutUint32(key, uint32(i))
		}
		c.IPsec.SetPolicy = append(c.IPsec.SetPolicy, ipsec.Policy{Name: fmt.Sprint(dir, i), Direction: dir, Order: uint64(i), ReqID: uint64(i + 1), Selector: sel})
		c.IPsec.SetSA = append(c.IPsec.SetSA, ipsec.SA{Name: fmt.Sprint(dir, i), ReqID: uint64(i + 1), SPI: firstSPI + uint32(i), Direction: dir,
			Algorithm: sal.AESGCM16, Key: key, ReplayWindow: 64, Local: ownWAN, Remote: Hop(i % Hops), Selector: sel, Offload: offload})
	}
	r.Apply(&c)
}

var (
	espKey    = []byte("0123456789abcdef" + "salt")
	espKey256 = []byte("0123456789abcdef0123456789abcdef" + "salt")
)

// espFlows are the flows of a benchmark over n SAs in random order: 256, or one
// for each SA where there are more.
func espFlows(n int) []flow4 {
	rng := rand.New(rand.NewPCG(9, 10))
	flows := make([]flow4, max(n, 256))
	for i := range flows {
		flows[i] = flow4{source(rng), be(100<<24 | uint32(i%n)<<8 | uint32(i/n&255)), rng.Uint32()}
	}
	rng.Shuffle(len(flows), func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
	return flows
}

// sized lets a generator of 64-byte packets make larger ones. The payload is
// whatever lies in the buffer.
func sized(g *gen4, n int) Fill {
	binary.BigEndian.PutUint16(g.tmpl[16:], uint16(n))
	binary.BigEndian.PutUint16(g.tmpl[38:], uint16(n-20))
	g.base = 0
	for i := 14; i < 34; i += 2 {
		if i != 24 {
			g.base += uint64(binary.LittleEndian.Uint16(g.tmpl[i:]))
		}
	}
	return func(p unsafe.Pointer) uint16 { return g.fill(p) + uint16(n) - 64 }
}

// sealed turns the frames of a generator into what the peers would send.
type sealed struct {
	inner Fill
	aead  cipher.AEAD
	seq   []uint64
	outer [20]byte
	nonce [12]byte
}

func newSealed(inner Fill, n int) *sealed { return newSealedBy(inner, n, espKey) }

func newSealedBy(inner Fill, n int, key []byte) *sealed {
	k, _ := aes.NewCipher(key[:len(key)-4])
	g := &sealed{inner: inner, seq: make([]uint64, n)}
	g.aead, _ = cipher.NewGCM(k)
	copy(g.nonce[:], key[len(key)-4:])
	copy(g.outer[:], []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 50})
	o := ownWAN.As4()
	copy(g.outer[16:], o[:])
	return g
}

// fill builds the inner packet where it will lie, then the rest around it.
func (g *sealed) fill(p unsafe.Pointer) uint16 {
	const head = 20 + 8 + 8
	n := int(g.inner(unsafe.Add(p, head))) - 14
	b := unsafe.Slice((*byte)(p), 14+head+n+21)
	dst := binary.BigEndian.Uint32(b[14+head+16:])
	i := int(dst >> 8 & 0xffff)
	if len(g.seq) == 1 {
		i = 0
	}
	// It comes from behind the peer to us.
	src := mem.Load32(p, 14+head+12)
	mem.Store32(p, 14+head+12, mem.Load32(p, 14+head+16))
	mem.Store32(p, 14+head+16, src)

	g.seq[i]++
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 1, 0, 8, 0})
	h := b[14:]
	copy(h, g.outer[:])
	peer := Hop(i % Hops).As4()
	copy(h[12:], peer[:])
	binary.BigEndian.PutUint32(h[20:], firstSPI+uint32(i))
	binary.BigEndian.PutUint32(h[24:], uint32(g.seq[i]))
	binary.BigEndian.PutUint64(h[28:], g.seq[i])
	pad := -(n + 2) & 3
	for k := range pad {
		h[head+n+k] = byte(k + 1)
	}
	h[head+n+pad], h[head+n+pad+1] = byte(pad), 4
	text := h[head : head+n+pad+2]
	total := head + len(text) + 16
	binary.BigEndian.PutUint16(h[2:], uint16(total))
	binary.BigEndian.PutUint16(h[10:], 0)
	var s uint32
	for k := 0; k < 20; k += 2 {
		s += uint32(binary.BigEndian.Uint16(h[k:]))
	}
	s = s&0xffff + s>>16
	s = s&0xffff + s>>16
	binary.BigEndian.PutUint16(h[10:], ^uint16(s))
	copy(g.nonce[4:], h[28:36])
	g.aead.Seal(text[:0], g.nonce[:], text, h[20:28])
	return uint16(14 + total)
}

// newESP is a rig whose SA state lies in a file, as fastpathd's does.
func newESP(b *testing.B) *Rig {
	return New(b, func(o *fastpath.Options) { o.StateDir = b.TempDir() })
}

// BenchmarkESP is ESP through the whole router: anti-replay and all counters on,
// IPv4 in IPv4, AES-128-GCM by the software engine.
func BenchmarkESP(b *testing.B) {
	for _, size := range espSizes {
		for _, n := range espSAs {
			b.Run(fmt.Sprintf("encrypt/%dB/%dsa", size, n), func(b *testing.B) {
				r := newESP(b)
				tunnels(r, n, sal.Outbound)
				fill := sized(newGen4(espFlows(n)), size)
				warmUp(r, 'a', fill, n)
				r.measureESP(b, size, 'a', fill)
			})
		}
	}
	for _, size := range espSizes {
		for _, n := range espSAs {
			b.Run(fmt.Sprintf("decrypt/%dB/%dsa", size, n), func(b *testing.B) {
				r := newESP(b)
				tunnels(r, n, sal.Inbound)
				ia := testbed.Route("20.0.0.0/8", "10.0.1.2", "a")
				r.Apply(&fastpath.Change{Neigh: neighbourA(), Route: routes(ia)})
				fill := newSealed(sized(newGen4(espFlows(n)), size), n).fill
				warmUp(r, 'b', fill, n)
				r.measureESP(b, size, 'b', fill)
			})
		}
	}
}

// BenchmarkESPIMIX is packets of 64, 576 and 1420 bytes, seven to four to one, in
// random order; and AES-256.
func BenchmarkESPIMIX(b *testing.B) {
	for _, n := range []int{1, 10000} {
		for _, k := range []struct {
			name string
			key  []byte
		}{{"", espKey}, {"-256", espKey256}} {
			b.Run(fmt.Sprintf("encrypt%s/%dsa", k.name, n), func(b *testing.B) {
				r := newESP(b)
				keyed(r, n, sal.Outbound, k.key)
				fill := imix(espFlows(n))
				warmUp(r, 'a', fill, n)
				r.Measure(b, imixMean, r.Forwarded(fill))
			})
		}
	}
}

const imixMean = (7*64 + 4*576 + 1420) / 12

// imix is the generator of such packets over the flows given.
func imix(flows []flow4) Fill {
	var sizes [3]Fill
	for i, n := range []int{64, 576, 1420} {
		g := newGen4(flows)
		g.pos = i * len(flows) / 3
		sizes[i] = sized(g, n)
	}
	var order []uint8
	for range 1024 {
		order = append(order, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	at := 0
	return func(p unsafe.Pointer) uint16 {
		if at++; at == len(order) {
			at = 0
		}
		return sizes[order[at]](p)
	}
}

// BenchmarkESP256 is BenchmarkESP with AES-256, one SA.
func BenchmarkESP256(b *testing.B) {
	for _, size := range espSizes {
		b.Run(fmt.Sprintf("encrypt/%dB", size), func(b *testing.B) {
			r := newESP(b)
			keyed(r, 1, sal.Outbound, espKey256)
			fill := sized(newGen4(espFlows(1)), size)
			warmUp(r, 'a', fill, 1)
			r.Measure(b, size, r.Forwarded(fill))
		})
		b.Run(fmt.Sprintf("decrypt/%dB", size), func(b *testing.B) {
			r := newESP(b)
			keyed(r, 1, sal.Inbound, espKey256)
			r.Apply(&fastpath.Change{Neigh: neighbourA(), Route: routes(testbed.Route("20.0.0.0/8", "10.0.1.2", "a"))})
			fill := newSealedBy(sized(newGen4(espFlows(1)), size), 1, espKey256).fill
			warmUp(r, 'b', fill, 1)
			r.Measure(b, size, func() (uint64, int) {
				c, sent := r.Burst('b', fill)
				if sent != sal.Burst {
					b.Fatalf("%d of %d packets came out; drops: %v", sent, sal.Burst, r.drops())
				}
				return c, sent
			})
		})
	}
}

// BenchmarkESPFlood is what it costs to get rid of what anybody may send: ESP with
// an SPI that nobody has, always the same or each time another one, packets that
// came before, and such whose ICV is wrong. Beside 1000 SAs that are not used.
func BenchmarkESPFlood(b *testing.B) {
	for _, how := range []string{"unknown-SPI", "random-SPIs", "replayed", "bad-ICV"} {
		b.Run(how, func(b *testing.B) {
			r := newESP(b)
			tunnels(r, 1000, sal.Inbound)
			g := newSealed(sized(newGen4(espFlows(1000)), 64), 1000)
			rng := rand.New(rand.NewPCG(1, 1))
			fill := func(p unsafe.Pointer) uint16 {
				n := g.fill(p)
				switch how {
				case "unknown-SPI":
					mem.Store32(p, 34, 77)
				case "random-SPIs":
					mem.Store32(p, 34, rng.Uint32()|1<<31)
				case "replayed":
					mem.Store32(p, 38, 0x01000000)
				case "bad-ICV":
					mem.Store8(p, uintptr(n)-1, mem.Load8(p, uintptr(n)-1)^1)
				}
				return n
			}
			r.Burst('b', g.fill)
			for range 512 {
				r.Burst('b', fill)
			}
			r.Measure(b, 64, func() (uint64, int) {
				c, sent := r.Burst('b', fill)
				if sent != 0 {
					b.Fatal("something came out")
				}
				return c, sal.Burst
			})
		})
	}
}

// warmUp lets all flows enter the cache.
func warmUp(r *Rig, in byte, fill Fill, n int) {
	for range 64 + n/8 {
		r.Burst(in, fill)
	}
}

// measureESP is Measure for bursts into a port, all of which must come out. In
// turn with each slice it takes the standard library's AES-GCM alone over the same
// buffers: gcm-ns/pkt is its median, over-ns/pkt the median of how much longer a
// slice took than the crypto beside it. On a machine whose speed changes all the
// time that is the figure to look at.
func (r *Rig) measureESP(b *testing.B, size int, in byte, fill Fill) {
	const bursts = 16 // in a slice
	alone := newGCM(r, size, in == 'b')
	var gcm, over []float64
	var cycles uint64
	n := 0
	r.Measure(b, size, func() (uint64, int) {
		c, sent := r.Burst(in, fill)
		if sent != sal.Burst {
			b.Fatalf("%d of %d packets came out; drops: %v", sent, sal.Burst, r.drops())
		}
		cycles += c
		if n++; n%bursts == 0 {
			ns := 1e9 / Hz() / sal.Burst
			x := float64(alone.burst()+alone.burst()) * ns / 2
			gcm, over = append(gcm, x), append(over, float64(cycles)*ns/bursts-x)
			cycles = 0
		}
		return c, sent
	})
	if len(gcm) > 0 {
		b.ReportMetric(median(gcm), "gcm-ns/pkt")
		b.ReportMetric(median(over), "over-ns/pkt")
	}
}

func median(l []float64) float64 {
	slices.Sort(l)
	return l[len(l)/2]
}

// standard is the standard library's AES-128-GCM alone, with one key, over as many
// bytes and buffers as a burst of packets has.
type standard struct {
	r          *Rig
	aead       cipher.AEAD
	open       bool
	text       int
	nonce, aad []byte
	bufs       [sal.Burst][]byte
}

func newGCM(r *Rig, size int, open bool) *standard {
	k, _ := aes.NewCipher(espKey[:16])
	g := &standard{r: r, open: open, text: size + -(size+2)&3 + 2, nonce: make([]byte, 12), aad: make([]byte, 8)}
	g.aead, _ = cipher.NewGCM(k)
	return g
}

// burst gives the cycles for one burst.
func (g *standard) burst() uint64 {
	for i, x := range g.r.free[len(g.r.free)-sal.Burst:] {
		p := g.r.E.Pool().Bytes(sal.MakeDesc(x, sal.Headroom+36, uint16(g.text+16)))
		g.bufs[i] = p
		if g.open {
			g.aead.Seal(p[:0], g.nonce, p[:g.text], g.aad)
		}
	}
	t := burst.Rdtsc()
	for _, p := range g.bufs {
		if !g.open {
			g.aead.Seal(p[:0], g.nonce, p[:g.text], g.aad)
		} else if _, err := g.aead.Open(p[:0], g.nonce, p, g.aad); err != nil {
			g.r.B.Fatal(err)
		}
	}
	return burst.Rdtsc() - t
}

func neighbourA() neigh.Change {
	return neigh.Change{Set: []neigh.Config{testbed.Neigh("a", "10.0.1.2", 21)}}
}

func routes(l ...route.Config) route.Change { return route.Change{Set: l} }
