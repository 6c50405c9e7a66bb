// Package saltest is the conformance suite of the SAL: what pkg/sal promises,
// as tests that every engine and every port driver runs against itself, and a
// fault-injecting engine to try callers with.
//
//	saltest.go  Run: the suite for engines, and how its tests talk to one
//	vectors.go  known answers
//	crypto.go   the tests of the packet path, with AES-GCM
//	async.go    full queues, and who is woken by jobs that are done
//	esp.go      the packet path with all other algorithms
//	protocol.go whole packets: sal.ModeProtocol; whole.go many of them at a time
//	control.go  the tests of discovery, SAs, groups, events
//	faulty.go   Faulty: an engine with faults
//	port.go     RunPort: the suite for port drivers; portchange.go what happens to an open port
//
// Covered are sal.ModeCrypto and sal.ModeProtocol; an engine runs the tests of what it
// offers. Those of ModeFull come with the first engine that has it.
package saltest

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"vrouter/pkg/sal"
)

// Options say what an engine is excused from.
type Options struct {
	// Allocates is why the engine allocates on the packet path; "": it must
	// not.
	Allocates string
}

// Run runs the suite against engines that new makes, a fresh one for each test.
func Run(t *testing.T, new func() sal.Device, o ...Options) {
	var opt Options
	if len(o) > 0 {
		opt = o[0]
	}
	tests := []struct {
		name string
		f    func(*bench)
	}{
		{"Info", testInfo}, {"Open", testOpen}, {"Refusals", testRefusals}, {"Groups", testGroups}, {"Listing", testListing},
		{"Sessions", testSessions}, {"Queues", testQueues}, {"ModSA", testModSA}, {"Full", testFull}, {"Gone", testGone},
		{"KnownAnswers", testKnownAnswers}, {"Lengths", testLengths}, {"Mixed", testMixed}, {"BadICV", testBadICV},
		{"NoSA", testNoSA}, {"NoRoom", testNoRoom}, {"KeyIsCopied", testKeyIsCopied}, {"Stats", testStats},
		{"Order", testOrder}, {"DelSAInFlight", testDelSAInFlight}, {"DelSAUnderTraffic", testDelSAUnderTraffic},
		{"ManyQueues", testManyQueues}, {"QueueFull", testQueueFull}, {"Rings", testRings}, {"Allocations", testAllocations},
		{"ESP/KnownAnswers", testESPKnownAnswers}, {"ESP/Lengths", testESPLengths}, {"ESP/Mixed", testESPMixed},
		{"ESP/BadICV", testESPBadICV}, {"ESP/Room", testESPRoom}, {"ESP/IVs", testESPIVs},
		{"ESP/Large", testESPLarge}, {"ESP/Allocations", testESPAllocations}, {"ESP/Refusals", testESPRefusals},
		{"Protocol/Bytes", testProtocolBytes}, {"Protocol/Replay", testProtocolReplay}, {"Protocol/Errors", testProtocolErrors},
		{"Protocol/Ends", testProtocolEnds}, {"Protocol/Hold", testProtocolHold}, {"Protocol/Refusals", testProtocolRefusals},
		{"Protocol/Order", testProtocolOrder}, {"Protocol/Shared", testProtocolShared}, {"Protocol/Lost", testProtocolLost},
		{"Protocol/Hostile", testProtocolHostile}, {"Protocol/Allocations", testProtocolAllocations},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			d := new()
			defer d.Close()
			b := &bench{T: t, d: d, caps: d.Caps(), opt: opt}
			mode, name := sal.ModeCrypto, "crypto"
			if strings.HasPrefix(x.name, "Protocol/") {
				mode, name = sal.ModeProtocol, "protocol"
			}
			if x.name != "Info" && !b.caps.Has(mode) {
				t.Skip("the engine does not offer mode " + name)
			}
			x.f(b)
		})
	}
}

// bench is a test's hold on an engine.
type bench struct {
	*testing.T
	d    sal.Device
	caps sal.Caps
	opt  Options

	s    sal.Session
	pool *sal.Pool
	q    sal.Queue
}

// start opens a session and queue 0 over so many buffers, and two large ones.
func (b *bench) start(buffers int) *bench {
	b.Helper()
	s, err := b.d.Open(b.Name(), false)
	if err != nil {
		b.Fatal(err)
	}
	b.s = s
	b.Cleanup(func() { s.Close() })
	if b.pool, err = sal.NewPoolLarge(buffers, 2); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { b.pool.Close() })
	if b.q, err = s.Queue(0, b.pool); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { b.q.Close() })
	return b
}

// algorithm is AES-GCM's entry in the capabilities.
func (b *bench) algorithm() sal.AlgorithmCaps {
	b.Helper()
	for _, a := range b.caps.Algorithms {
		if a.Algorithm == sal.AESGCM16 {
			return a
		}
	}
	b.Skip("the engine has no AES-GCM-16")
	panic("not reached")
}

// add installs an SA that must be possible.
func (b *bench) add(g sal.Group, c sal.SAConfig) sal.SA {
	b.Helper()
	h, err := b.s.AddSA(g, &c)
	if err != nil {
		b.Fatal(err)
	}
	if h == 0 {
		b.Fatal("SA 0 was given")
	}
	return h
}

// pair installs both directions of an SA with one key.
func (b *bench) pair(c sal.SAConfig) (out, in sal.SA) {
	b.Helper()
	c.Direction = sal.Outbound
	out = b.add(0, c)
	c.Direction = sal.Inbound
	return out, b.add(0, c)
}

// gcm is a config with the key repeated from its number.
func gcm(n uint32, bits int) sal.SAConfig {
	key := make([]byte, bits/8+4)
	for i := range key {
		key[i] = byte(n>>(8*(i&3))) + byte(i)
	}
	return sal.SAConfig{SPI: 0x100 + n, Direction: sal.Outbound, Mode: sal.ModeCrypto, Algorithm: sal.AESGCM16, Key: key}
}

const (
	ivLen  = 8
	icvLen = 16
	espLen = 8
	espOff = 162 // odd multiples of nothing: as behind Ethernet and an IPv4 header
)

// packet writes an ESP header, IV and text into a buffer, with a pattern
// around them, and gives the job for it.
func (b *bench) packet(sa sal.SA, op sal.Op, buf uint32, off int, spi, seq uint32, iv uint64, text []byte) sal.Job {
	m := b.buffer(buf)
	for i := range m {
		m[i] = guard(i)
	}
	p := m[off:]
	binary.BigEndian.PutUint32(p, spi)
	binary.BigEndian.PutUint32(p[4:], seq)
	binary.BigEndian.PutUint64(p[8:], iv)
	copy(p[espLen+ivLen:], text)
	n := len(text)
	if op == sal.Open {
		n -= icvLen
	}
	return sal.Job{SA: sa, Op: op, Status: sal.StatusPending, Desc: sal.MakeDesc(buf, uint16(off), uint16(espLen+ivLen+n)),
		Off: uint16(off), Len: uint16(n), Cookie: uint64(buf)<<32 | uint64(seq)}
}

func guard(i int) byte { return byte(i*13 + 7) }

// buffer is a whole buffer.
func (b *bench) buffer(i uint32) []byte { return b.pool.Bytes(sal.MakeDesc(i, 0, 0))[:b.pool.End(i)] }

// result is the text of a finished job, with the ICV for Seal; everything
// around must be as it was.
func (b *bench) result(j *sal.Job) []byte {
	b.Helper()
	m := b.buffer(j.Desc.Buf())
	from := int(j.Off) + espLen + ivLen
	to := from + int(j.Len) + icvLen
	for i, x := range m {
		if (i < int(j.Off) || i >= to) && x != guard(i) {
			b.Fatalf("byte %d of the buffer has changed; the packet is %d to %d", i, j.Off, to)
		}
	}
	if j.Op == sal.Open {
		to -= icvLen
	}
	return m[from:to]
}

// ways are the ways to have jobs done.
func (b *bench) ways() map[string]func([]sal.Job) {
	w := map[string]func([]sal.Job){"async": b.async}
	if b.caps.Sync {
		w["sync"] = func(j []sal.Job) { b.q.Do(j) }
	}
	return w
}

// run has jobs done in whichever way.
func (b *bench) run(jobs []sal.Job) {
	if b.caps.Sync {
		b.q.Do(jobs)
	} else {
		b.async(jobs)
	}
}

// patience is how long completions may take before a test fails.
const patience = 20 * time.Second

// async submits jobs and polls until all are back, each into its old place.
func (b *bench) async(jobs []sal.Job) {
	b.Helper()
	want := map[uint64][]int{}
	for i := range jobs {
		want[jobs[i].Cookie] = append(want[jobs[i].Cookie], i)
	}
	todo, back := slices.Clone(jobs), 0
	out := make([]sal.Job, 32)
	for end := time.Now().Add(patience); back < len(jobs); {
		n := b.q.Submit(todo)
		todo = todo[n:]
		if f := b.q.InFlight(); f != len(jobs)-len(todo)-back {
			b.Fatalf("%d jobs in flight, want %d", f, len(jobs)-len(todo)-back)
		}
		for _, j := range out[:b.q.Poll(out)] {
			l := want[j.Cookie]
			if len(l) == 0 {
				b.Fatalf("job %#x came back, which was not submitted or came back before", j.Cookie)
			}
			jobs[l[0]] = j
			want[j.Cookie] = l[1:]
			back++
		}
		if time.Now().After(end) {
			b.Fatalf("%d of %d jobs came back in %v", back, len(jobs), patience)
		}
	}
	if f := b.q.InFlight(); f != 0 {
		b.Fatalf("%d jobs in flight at the end", f)
	}
}

// one runs a single job and gives it back.
func (b *bench) one(j sal.Job) sal.Job {
	b.Helper()
	l := []sal.Job{j}
	b.run(l)
	return l[0]
}

// reference is what the standard library makes of it: the suite's own oracle
// beside the known answers.
func reference(key []byte, iv uint64, aad, text []byte) []byte {
	k := key[:len(key)-4]
	block, err := aes.NewCipher(k)
	if err != nil {
		panic(err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := binary.BigEndian.AppendUint64(slices.Clone(key[len(k):]), iv)
	return g.Seal(nil, nonce, text, aad)
}

// aad is the associated data of RFC 4106 section 5.
func aad(esn bool, spi, hi, lo uint32) []byte {
	a := binary.BigEndian.AppendUint32(nil, spi)
	if esn {
		a = binary.BigEndian.AppendUint32(a, hi)
	}
	return binary.BigEndian.AppendUint32(a, lo)
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(7*i + 3)
	}
	return p
}
